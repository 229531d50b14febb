//! The few instructions that probes are put together from.

/// One instruction, as in `struct bpf_insn`.
pub type Instruction = u64;

/// Puts an instruction together (little-endian hosts; the project builds for no other).
#[must_use]
pub const fn instruction(code: u8, dst: u8, src: u8, offset: i16, immediate: i32) -> Instruction {
    let [low, high] = offset.to_le_bytes();
    let [a, b, c, d] = immediate.to_le_bytes();
    u64::from_le_bytes([code, dst | src << 4, low, high, a, b, c, d])
}

/// `dst = value`
#[must_use]
pub const fn set(dst: u8, value: i32) -> Instruction {
    instruction(0xb7, dst, 0, 0, value)
}

/// `dst = src`
#[must_use]
pub const fn copy(dst: u8, src: u8) -> Instruction {
    instruction(0xbf, dst, src, 0, 0)
}

/// `dst += value`
#[must_use]
pub const fn add(dst: u8, value: i32) -> Instruction {
    instruction(0x07, dst, 0, 0, value)
}

/// Calls the helper of this number.
#[must_use]
pub const fn call(helper: i32) -> Instruction {
    instruction(0x85, 0, 0, 0, helper)
}

/// `return 1`: traffic passes, and a `sock_ops` reply stays as it was.
pub const PASS: [Instruction; 2] = [set(0, 1), instruction(0x95, 0, 0, 0, 0)];

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn instructions_are_what_the_kernel_documents() {
        assert_eq!(set(0, 1).to_le_bytes(), [0xb7, 0, 0, 0, 1, 0, 0, 0]);
        assert_eq!(copy(6, 1).to_le_bytes(), [0xbf, 0x16, 0, 0, 0, 0, 0, 0]);
        let store = instruction(0x7a, 10, 0, -16, -1);
        assert_eq!(store.to_le_bytes(), [0x7a, 0x0a, 0xf0, 0xff, 0xff, 0xff, 0xff, 0xff]);
    }
}
