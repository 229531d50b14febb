//! The guard against loads that are made up, second by second.

use super::{Beyond, CALM, Guard, Limits, Measurement, PATIENCE, SMALLEST, Verdict};

/// A second after another, with what was used in it.
struct Life {
    guard: Guard,
    now: Measurement,
}

impl Life {
    fn new(limits: Limits) -> Self {
        let mut life = Self { guard: Guard::new(limits), now: Measurement::default() };
        assert_eq!(life.second(5.0, 0), Verdict::Keep, "the first one has nothing before it");
        life
    }

    fn second(&mut self, load: f64, memory: u64) -> Verdict {
        self.now.now_ns += 1_000_000_000;
        self.now.cpu_ns += (load * 1e9) as u64;
        self.now.memory = memory;
        self.guard.take(self.now)
    }

    /// Seconds in which every followed connection costs its part of `whole`, beside `base`.
    fn live(&mut self, seconds: u32, whole: f64, base: f64) -> f64 {
        let mut load = 0.0;
        for _ in 0..seconds {
            load = base + whole / f64::from(1_u32 << self.guard.share());
            self.second(load, 0);
        }
        load
    }
}

fn cpu(limit: f64) -> Limits {
    Limits { cpu: Some(limit), memory: None }
}

#[test]
fn without_limits_nothing_happens() {
    let mut life = Life::new(Limits::default());
    assert!(!life.guard.is_set());
    for _ in 0..100 {
        assert_eq!(life.second(64.0, u64::MAX), Verdict::Keep);
    }
}

#[test]
fn a_burst_of_a_second_changes_nothing() {
    let mut life = Life::new(cpu(0.5));
    for _ in 0..10 {
        assert_eq!(life.second(0.9, 0), Verdict::Keep);
        assert_eq!(life.second(0.3, 0), Verdict::Keep);
    }
}

#[test]
fn it_goes_as_far_down_as_the_load_asks_and_stays_there() {
    let mut life = Life::new(cpu(0.1));
    life.second(0.7, 0);
    assert_eq!(life.second(0.7, 0), Verdict::Follow(3));
    let load = life.live(600, 0.7, 0.0);
    assert!((0.04..=0.1).contains(&load), "{load}");
    assert_eq!(life.guard.share(), 3, "it does not swing");
}

#[test]
fn it_recovers_step_by_step_and_slower_than_it_went_down() {
    let mut life = Life::new(cpu(0.1));
    life.live(10, 6.0, 0.0);
    assert_eq!(life.guard.share(), SMALLEST);
    life.live(CALM - 1, 0.0, 0.01);
    assert_eq!(life.guard.share(), SMALLEST);
    for share in (0..SMALLEST).rev() {
        life.live(CALM, 0.0, 0.01);
        assert!(life.guard.share().abs_diff(share) <= 1);
    }
    life.live(2 * CALM, 0.0, 0.01);
    assert_eq!(life.guard.share(), 0);
    assert_eq!(life.second(0.0, 0), Verdict::Keep);
}

#[test]
fn where_nothing_helps_it_leaves_after_a_while() {
    let mut life = Life::new(cpu(0.1));
    life.live(3, 20.0, 0.5);
    assert_eq!(life.guard.share(), SMALLEST);
    let verdicts: Vec<_> = (0..PATIENCE).map(|_| life.second(0.5, 0)).collect();
    let left = verdicts.iter().position(|verdict| matches!(verdict, Verdict::Leave(_)));
    assert!(left.is_some_and(|left| left + 2 >= PATIENCE as usize), "{verdicts:?}");
    let Some(Verdict::Leave(beyond)) = verdicts.last() else { panic!("{verdicts:?}") };
    assert_eq!(*beyond, Beyond::Cpu(0.5, 0.1));
    assert!(beyond.to_string().contains("limits.cpu"));
    // One second within the limit, and it begins to count anew.
    let mut life = Life::new(cpu(0.1));
    life.live(3, 20.0, 0.5);
    for _ in 0..10 * PATIENCE {
        life.second(0.05, 0);
        assert_ne!(life.second(0.5, 0), Verdict::Leave(Beyond::Cpu(0.5, 0.1)));
    }
}

#[test]
fn memory_that_is_short_takes_the_smallest_share_and_the_limit_is_the_end() {
    let limits = Limits { cpu: None, memory: Some(100 << 20) };
    let mut life = Life::new(limits);
    assert_eq!(life.second(1.0, 80 << 20), Verdict::Keep);
    assert_eq!(life.second(1.0, 91 << 20), Verdict::Follow(SMALLEST));
    assert!(life.guard.is_tight());
    assert_eq!(life.second(1.0, 85 << 20), Verdict::Keep, "it is not yet well below");
    assert!(life.guard.is_tight());
    for _ in 0..=CALM {
        life.second(0.0, 70 << 20);
    }
    assert_eq!(life.guard.share(), SMALLEST - 1);
    let verdict = life.second(0.0, 101 << 20);
    assert_eq!(verdict, Verdict::Leave(Beyond::Memory(101 << 20, 100 << 20)));
}
