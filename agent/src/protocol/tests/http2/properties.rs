//! What holds for every sequence of frames, possible or not.
//!
//! A small kernel writes what a connection does, in records of one or several items.
//! Records are then left out, as a full ring would, or pass unseen in one direction.
//! Requests are told apart by their TCP sequence number.

mod nonsense;
mod story;

use proptest::prelude::*;

use super::*;
use story::{End, Story, stories};

/// What of the truth the stage may not know.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Missed {
    Nothing,
    Something,
}

/// Feeds a story's records; at the end nothing can be open any more.
fn play(records: &[Record]) -> Result<Stage, TestCaseError> {
    let mut stage = Stage::new();
    for record in records {
        stage.feed(record);
    }
    stage.protocols.expire(u64::MAX, &mut stage.out);
    prop_assert_eq!(stage.used(), (0, 0, 0));
    Ok(stage)
}

/// No call twice, and nothing in one that did not happen: how many are told or lost.
fn check(story: &Story, stage: &Stage, missed: Missed) -> Result<usize, TestCaseError> {
    let mut told = std::collections::HashSet::new();
    for exchange in &stage.out.exchanges {
        prop_assert!(told.insert(exchange.sequence), "told twice: {exchange:?}");
        let truth = &story.truth[&exchange.sequence];
        let complete = missed == Missed::Nothing;
        let same = |path: &str| path == truth.path || (!complete && path == exchange::UNKNOWN);
        prop_assert!(same(exchange.path.as_str()), "{exchange:?} {truth:?}");
        match exchange.error {
            None => prop_assert_eq!(truth.end, End::Answered, "{:?}", exchange),
            Some(cause) => prop_assert_eq!(truth.end.cause(story.side), Some(cause)),
        }
        if exchange.status != truth.status {
            // Its head may have gone by, or have named the status by what had gone by.
            prop_assert!(!complete && exchange.status.is_none());
        }
        prop_assert!(exchange.end_ns >= exchange.start_ns);
        let bytes = (exchange.request_bytes, exchange.response_bytes);
        prop_assert!(bytes.0 <= truth.bytes.0 && bytes.1 <= truth.bytes.1);
        prop_assert!(!complete || bytes == truth.bytes);
        let Some(rpc) = &exchange.rpc else {
            prop_assert!(!complete || !truth.grpc);
            continue;
        };
        prop_assert!(truth.grpc);
        let counts = [rpc.request_messages, rpc.response_messages];
        for (count, true_count) in counts.into_iter().zip(truth.messages) {
            prop_assert!(count == Some(true_count) || (!complete && count.is_none()));
        }
        prop_assert!(rpc.status.is_none() || rpc.status == truth.grpc_status);
        prop_assert!(!complete || truth.end != End::Answered || rpc.status == truth.grpc_status);
    }
    let lost: u32 = stage.out.lost.iter().map(|lost| lost.calls).sum();
    Ok(told.len() + lost as usize)
}

proptest! {
    #[test]
    fn the_sum_comes_out(story in stories()) {
        let stage = play(&story.records)?;
        prop_assert_eq!(check(&story, &stage, Missed::Nothing)?, story.truth.len());
        prop_assert_eq!(stage.out.lost.len(), 0);
        let counters = stage.protocols.occupancy().counters;
        prop_assert_eq!(counters.frames_malformed + counters.blocks_unreadable, 0);
    }

    #[test]
    fn the_sum_comes_out_with_lost_records(
        mut story in stories(),
        lost in prop::collection::vec(prop::bool::weighted(0.15), 0..80),
    ) {
        story.lose(&lost);
        let stage = play(&story.records)?;
        let counted = check(&story, &stage, Missed::Something)?;
        prop_assert!(counted >= story.shown(), "{} of {} shown", counted, story.shown());
        prop_assert!(counted <= story.truth.len(), "{} of {}", counted, story.truth.len());
    }

    #[test]
    fn the_sum_comes_out_where_frames_pass_unseen(
        mut story in stories(),
        unseen in prop::collection::vec((any::<prop::sample::Index>(), 1_usize..6), 1..4),
    ) {
        for (from, count) in unseen {
            story.pass_unseen(from.index(story.records.len().max(1)), count);
        }
        let stage = play(&story.records)?;
        let counted = check(&story, &stage, Missed::Something)?;
        prop_assert!(counted >= story.shown(), "{} of {} shown", counted, story.shown());
        prop_assert!(counted <= story.truth.len(), "{} of {}", counted, story.truth.len());
        prop_assert_eq!(stage.protocols.occupancy().counters.blocks_unreadable, 0);
    }

    #[test]
    fn whoever_comes_late_makes_nothing_up(story in stories(), from: prop::sample::Index) {
        let mut story = story;
        story.join_late(from.index(story.records.len()));
        let stage = play(&story.records)?;
        let counted = check(&story, &stage, Missed::Something)?;
        prop_assert!(counted <= story.truth.len());
    }
}
