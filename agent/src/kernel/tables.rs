//! How full the kernel half's own tables are. The kernel keeps no count, so their keys are
//! counted: the smaller tables with every pulse, the large one about once a minute.
//! A table that cannot be read has no figure.

use aya::Ebpf;
use aya::maps::{HashMap, MapData};
use meshtap_ebpf::event::Ended;
use meshtap_ebpf::flow::WINDOW;
use zerocopy::FromBytes as _;

/// Requests that may wait at listeners (`HELD` of the programs).
const HELD: usize = 256;
/// Key and value of that table.
type HeldKey = [u8; 40];
/// Time, three numbers, kept bytes and the window that is read behind them.
type HeldValue = [u8; 24 + 2048 + WINDOW];
/// Connections older than the agent (`LATE_CONNECTIONS` of the programs).
const LATE: usize = 65_536;
/// Streams whose message goes on in a later frame (`PLACES` of the programs).
const PLACES: usize = 8_192;
/// Ends of connections that found no room in the ring (`ENDED` of the programs).
const ENDED: usize = 8_192;
/// Pulses between two counts of the large table.
const PULSES: u32 = 60;

/// A table, the entries in it, and how many it may hold.
pub type Filled = (&'static str, usize, usize);

/// The tables that are counted.
pub struct Tables {
    held: Option<HashMap<MapData, HeldKey, HeldValue>>,
    late: Option<HashMap<MapData, u64, u64>>,
    places: Option<HashMap<MapData, [u64; 2], u64>>,
    ended: Option<HashMap<MapData, u64, [u8; size_of::<Ended>()]>>,
    late_used: usize,
    pulse: u32,
}

impl Tables {
    /// Takes the tables out of the loaded object.
    pub fn take(programs: &mut Ebpf) -> Self {
        let held = programs.take_map("HELD").and_then(|map| HashMap::try_from(map).ok());
        let late =
            programs.take_map("LATE_CONNECTIONS").and_then(|map| HashMap::try_from(map).ok());
        let places = programs.take_map("PLACES").and_then(|map| HashMap::try_from(map).ok());
        let ended = programs.take_map("ENDED").and_then(|map| HashMap::try_from(map).ok());
        Self { held, late, places, ended, late_used: 0, pulse: 0 }
    }

    /// Takes the ends of connections that found no room in the ring, by cookie. **What the
    /// ring holds of these connections came before.**
    pub fn ended(&mut self) -> Vec<(u64, Ended)> {
        let Some(table) = &mut self.ended else { return Vec::new() };
        let cookies: Vec<u64> = table.keys().take(ENDED).filter_map(Result::ok).collect();
        let take = |cookie| {
            let ended = Ended::read_from_bytes(&table.get(&cookie, 0).ok()?).ok()?;
            // Nothing adds to the end of a connection.
            table.remove(&cookie).ok()?;
            Some((cookie, ended))
        };
        cookies.into_iter().filter_map(take).collect()
    }

    /// How full they are; to be asked once a pulse.
    pub fn filled(&mut self) -> Vec<Filled> {
        let mut filled = Vec::new();
        if let Some(held) = &self.held {
            // Keys that come and go may begin the walk anew: it ends at the bound.
            filled.push(("held_requests", held.keys().take(HELD).count(), HELD));
        }
        if let Some(places) = &self.places {
            filled.push(("broken_off_messages", places.keys().take(PLACES).count(), PLACES));
        }
        if let Some(ended) = &self.ended {
            filled.push(("ended_connections", ended.keys().take(ENDED).count(), ENDED));
        }
        if let Some(late) = &self.late {
            if self.pulse == 0 {
                self.late_used = late.keys().take(LATE).count();
            }
            self.pulse = (self.pulse + 1) % PULSES;
            filled.push(("older_connections", self.late_used, LATE));
        }
        filled
    }
}
