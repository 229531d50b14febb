//! Blocks of headers, as the verifier can bear to follow them.

use aya_ebpf::bindings::__sk_buff;
use aya_ebpf::programs::SkBuffContext;
use meshtap_ebpf::event::INGRESS;
use meshtap_ebpf::flow::Flow;
use meshtap_ebpf::streams::block;

use super::outlet::claimed;

/// See [`block::leaves_table`]: of the packet's flow in this direction, which is claimed.
///
/// Exported, and so verified once for all of its calls: it takes nothing but the context and
/// numbers, and finds everything anew.
#[unsafe(no_mangle)]
#[inline(never)]
pub extern "C" fn leaves_table(skb: *mut __sk_buff, direction: u32, at: u32, length: u32) -> u32 {
    let Some((_, http)) = claimed(&SkBuffContext::new(skb)) else { return 0 };
    // SAFETY: a value of the map.
    let [ingress, egress] = unsafe { &mut (*http).flows };
    let flow: &mut Flow = if direction == u32::from(INGRESS) { ingress } else { egress };
    block::leaves_table(flow, at, length)
}
