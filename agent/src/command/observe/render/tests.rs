//! Cells, colours and the header.

use proptest::prelude::*;

use super::super::examples::{call, lost};
use super::super::merge::Merge;
use super::*;
use crate::protocol::{Cause, Side};

fn row(table: &mut Table, change: impl FnOnce(&mut crate::attribution::Call)) -> String {
    let (mut merge, mut ready, mut out) = (Merge::default(), Vec::new(), String::new());
    let mut call = call(Side::Client);
    call.peer_observed = false;
    change(&mut call);
    merge.put(call, &mut ready);
    table.call(&Line::of(&ready[0], 0), &mut out);
    out
}

#[test]
fn numbers_have_three_digits_and_a_unit() {
    let shown =
        [0, 999, 1_000, 9_994, 9_995, 99_949, 99_950, 999_499, 1_000_000, 75_000_000].map(duration);
    let expected = [
        "0us", "999us", "1.00ms", "9.99ms", "10.0ms", "99.9ms", "100ms", "999ms", "1.00s", "75.0s",
    ];
    assert_eq!(shown, expected);
    assert_eq!(
        [0, 999, 1_000, 52_400_000, 3_000_000_000].map(bytes),
        ["0", "999", "1.00K", "52.4M", "3.00G"]
    );
}

#[test]
fn cells_have_the_width_that_they_are_given_also_with_wide_characters() {
    for text in ["", "a", "abcdef", "abcdefgh", "日本語テキスト", "e\u{301}e\u{301}", "a日本語"]
    {
        for align in [Align::Left, Align::Right] {
            assert_eq!(fit(text, 6, align).width(), 6, "{text}");
        }
    }
    assert_eq!(fit("abcdefgh", 6, Align::Left), "abcde…");
    assert_eq!(fit("日本語テ", 6, Align::Left), "日本… ");
}

#[test]
fn the_header_comes_again_on_a_terminal_and_once_elsewhere() {
    let headers = |repeat| {
        let mut table = Table::new(false, 160, repeat);
        let rows: String = (0..7).map(|_| row(&mut table, |_| {})).collect();
        rows.lines().map(|line| line.starts_with("TIME")).collect::<Vec<bool>>()
    };
    assert_eq!(headers(Some(3)).iter().filter(|is_header| **is_header).count(), 3);
    assert!(headers(Some(3))[4]);
    assert_eq!(headers(None).iter().filter(|is_header| **is_header).count(), 1);
}

#[test]
fn rows_are_as_wide_as_the_terminal_where_it_is_wide_enough() {
    for width in [140, 160, 200, 240] {
        let rows = row(&mut Table::new(false, width, None), |_| {});
        let header = rows.lines().next().unwrap();
        assert!(header.width() <= width, "{width}: {}", header.width());
        assert!(header.width() + 60 > width, "{width}: {}", header.width());
    }
    assert!(row(&mut Table::new(false, 0, None), |_| {}).contains("/users/42"));
}

#[test]
fn colours_are_written_only_where_they_are_wanted_and_say_how_it_went() {
    assert!(!row(&mut Table::new(false, 160, None), |_| {}).contains('\u{1b}'));
    let status = |status, error| {
        let rows = row(&mut Table::new(true, 160, None), |call| {
            (call.exchange.status, call.exchange.error) = (status, error);
        });
        rows.lines().nth(1).unwrap().to_owned()
    };
    assert!(status(Some(200), None).contains("\u{1b}[32m   200\u{1b}[0m"));
    assert!(status(Some(301), None).contains("\u{1b}[36m   301"));
    assert!(status(Some(404), None).contains("\u{1b}[33m   404"));
    assert!(status(Some(503), None).contains("\u{1b}[1m\u{1b}[31m   503"));
    let of = |code| {
        row(&mut Table::new(true, 160, None), |call| {
            *call = super::super::examples::grpc(Side::Client, Some(code));
            call.peer_observed = false;
        })
    };
    assert!(of(0).contains("\u{1b}[32m    OK\u{1b}[0m"));
    assert!(of(5).contains("\u{1b}[33mnot OK\u{1b}[0m"), "the client's error");
    assert!(of(13).contains("\u{1b}[1m\u{1b}[31mnot OK\u{1b}[0m"), "the server's");
    let broken = status(None, Some(Cause::Timeout));
    assert!(broken.contains("\u{1b}[31m     -") && broken.contains("timeout"), "{broken:?}");
    let mut out = String::new();
    Table::new(true, 160, None).lost(&lost().line(0), &mut out);
    assert!(out.contains("\u{1b}[43m") && out.contains("3 calls lost"), "{out:?}");
}

#[test]
fn causes_say_whose_they_are_where_the_ends_differ() {
    let note_of = |client, server| {
        let (mut merge, mut ready) = (Merge::default(), Vec::new());
        for (side, error) in [(Side::Client, client), (Side::Server, server)] {
            let mut call = call(side);
            call.exchange.error = error;
            merge.put(call, &mut ready);
        }
        note(&Line::of(&ready[0], 0))
    };
    let text = |text: &str| Some(text.to_owned());
    assert_eq!(note_of(None, None), None);
    assert_eq!(note_of(Some(Cause::Timeout), Some(Cause::Timeout)), text("timeout"));
    assert_eq!(note_of(Some(Cause::Abandoned), None), text("client: abandoned"));
    assert_eq!(note_of(None, Some(Cause::Closed)), text("server: connection_closed"));
    assert_eq!(
        note_of(Some(Cause::Abandoned), Some(Cause::Closed)),
        text("client: abandoned, server: connection_closed")
    );
    assert!(
        row(&mut Table::new(false, 160, None), |call| call.exchange.cut = true)
            .ends_with("  head cut\n")
    );
}

proptest! {
    #[test]
    fn whatever_comes_is_harmless_and_fits(
        text in "(?s).*|[\u{0}-\u{ff}\u{2000}-\u{206f}]*",
        width in 1_usize..60,
    ) {
        let cleaned = clean(&text);
        prop_assert!(!cleaned.contains(is_hostile));
        prop_assert_eq!(fit(&cleaned, width, Align::Left).width(), width);
    }
}
