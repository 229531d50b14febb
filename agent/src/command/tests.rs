//! Arguments, exit codes, and the end after a signal.

use std::cell::Cell;
use std::time::Duration;

use clap::CommandFactory;

use super::*;

/// A session that notes what it was asked for.
#[derive(Default)]
struct Noted {
    asked: Cell<&'static str>,
    level: Cell<Option<Level>>,
}

impl Noted {
    fn note(&self, what: &'static str, config: &Config) {
        self.asked.set(what);
        self.level.set(Some(config.log.level));
    }
}

impl Session for Noted {
    async fn run(&self, config: Config, _: Stop) -> Result<(), Failure> {
        self.note("run", &config);
        Ok(())
    }
    async fn observe(&self, config: Config, _: Observer<Output>, _: Stop) -> Result<(), Failure> {
        self.note("observe", &config);
        Err(Failure::new(Exit::NotAllowed, "no"))
    }
    fn doctor(&self, _: bool) -> Result<(), Failure> {
        self.asked.set("doctor");
        Ok(())
    }
    fn metrics_reference(&self) -> String {
        String::new()
    }
}

fn execute_words(session: &Noted, words: &[&str]) -> u8 {
    let words = std::iter::once("meshtap").chain(words.iter().copied()).map(OsString::from);
    execute(words, session).code()
}

#[test]
fn the_definition_of_the_arguments_is_sound() {
    Arguments::command().debug_assert();
}

#[test]
fn every_command_has_examples_and_the_exit_codes_in_its_help() {
    let mut command = Arguments::command();
    command.build();
    let mut pending: Vec<&mut clap::Command> = vec![&mut command];
    let mut seen = 0;
    while let Some(command) = pending.pop() {
        let help = command.render_help().to_string();
        if command.get_name() != "meshtap" && !command.is_hide_set() {
            assert!(help.contains("\nExamples:\n"), "{}", command.get_name());
            seen += 1;
        }
        if !command.is_hide_set() {
            for exit in Exit::ALL {
                let line = format!("\n  {}  {}", exit.code(), exit.meaning());
                assert!(help.contains(&line), "{}: {line}", command.get_name());
            }
        }
        pending.extend(command.get_subcommands_mut());
    }
    assert_eq!(seen, 6, "run, observe, doctor, config, config print, config check");
}

#[test]
fn exit_codes_are_the_documented_numbers() {
    assert_eq!(Exit::ALL.map(Exit::code), [0, 1, 2, 3, 4, 5]);
    let noted = Noted::default();
    assert_eq!(execute_words(&noted, &["run"]), 0);
    assert_eq!(noted.asked.get(), "run");
    assert_eq!(noted.level.get(), Some(Level::Info));
    assert_eq!(execute_words(&noted, &["observe", "--count", "1"]), 3);
    assert_eq!(noted.level.get(), Some(Level::Warn), "the view is not interrupted");
    assert_eq!(execute_words(&noted, &["observe", "--log-level", "debug"]), 3);
    assert_eq!(noted.level.get(), Some(Level::Debug));
    assert_eq!(execute_words(&noted, &["doctor", "--json"]), 0);
    assert_eq!(noted.asked.get(), "doctor");
    for wrong in [
        &["nonsense"][..],
        &[],
        &["run", "--no-such-flag"],
        &["run", "--config", "/no/such/file.yaml"],
        &["run", "--set", "capture.ring_bytes=3"],
        &["run", "--kernel-log", "loud"],
        &["observe", "--status", "6000"],
        &["observe", "--not"],
        &["observe", "--count", "0"],
        &["observe", "--duration", "30"],
    ] {
        let noted = Noted::default();
        assert_eq!(execute_words(&noted, wrong), 2, "{wrong:?}");
        assert_eq!(noted.asked.get(), "", "{wrong:?} started something");
    }
}

#[test]
fn flags_are_the_strongest_layer_and_name_themselves() {
    let layers = |words: &[&str]| {
        let words = ["meshtap", "run"].iter().chain(words);
        match Arguments::try_parse_from(words).unwrap().command {
            Command::Run(layers) => layers,
            other => panic!("{other:?}"),
        }
    };
    let file = tempfile::NamedTempFile::new().unwrap();
    std::fs::write(file.path(), "listen: 127.0.0.1:1\nseries: {limit: 11}\n").unwrap();
    let path = file.path().to_str().unwrap();
    let environment: Environment = [
        ("MESHTAP_LISTEN", "127.0.0.1:2"),
        ("MESHTAP_LOG_LEVEL", "error"),
        ("MESHTAP_CONFIG", path),
    ]
    .map(|(name, value)| (name.to_owned(), value.to_owned()))
    .into_iter()
    .collect();
    let words = ["--listen", "127.0.0.1:3", "--kernel-log", "debug", "--set", "listen=127.0.0.1:4"];
    let raw = layers(&words).raw(environment).unwrap();
    let (config, read) = Config::read(&raw).unwrap();
    assert_eq!(config.listen.port(), 3, "a key's own flag is stronger than --set");
    assert_eq!((config.log.level, config.log.kernel), (Level::Error, Level::Debug));
    assert_eq!(config.series.limit, 11, "the file that MESHTAP_CONFIG names is read");
    let printed = crate::config::reference::print(&read);
    assert!(printed.contains("listen: 127.0.0.1:3                           # flag --listen\n"));
    assert!(printed.contains("# flag --kernel-log\n"), "{printed}");
    assert!(printed.contains("# environment MESHTAP_LOG_LEVEL\n"), "{printed}");
    assert!(printed.contains(&format!("# {path}:2\n")), "{printed}");
}

#[test]
fn a_failure_says_its_causes_once() {
    #[derive(Debug, thiserror::Error)]
    #[error("outer")]
    struct Outer(#[source] std::io::Error);
    let failure = Failure::new(Exit::Failed, Outer(std::io::Error::other("inner")));
    assert_eq!(failure.to_string(), "outer: inner");
    #[derive(Debug, thiserror::Error)]
    #[error("outer: {0}")]
    struct Repeating(#[source] std::io::Error);
    let failure = Failure::new(Exit::Failed, Repeating(std::io::Error::other("inner")));
    assert_eq!(failure.to_string(), "outer: inner");
}

/// One test, because a signal is meant for the whole process.
#[test]
fn a_signal_asks_for_the_end_and_the_deadline_or_a_second_one_forces_it() {
    let signal = |signal| {
        let own = rustix::process::getpid();
        rustix::process::kill_process(own, signal).unwrap();
    };
    let terminate = rustix::process::Signal::TERM;

    let ended = run::until_stopped(Duration::from_secs(20), |mut stop| async move {
        assert!(!stop.is_requested());
        signal(terminate);
        stop.requested().await;
        assert!(stop.is_requested());
        Ok(())
    });
    assert!(ended.is_ok(), "{ended:?}");

    let late = run::until_stopped(Duration::from_millis(50), |_| async move {
        signal(terminate);
        std::future::pending().await
    });
    let late = late.unwrap_err();
    assert_eq!(late.exit, Exit::Incomplete);
    assert!(late.to_string().starts_with("stopping took longer than 50ms: "), "{late}");

    let impatient = run::until_stopped(Duration::from_secs(20), |mut stop| async move {
        signal(terminate);
        stop.requested().await;
        signal(rustix::process::Signal::INT);
        std::future::pending().await
    });
    let impatient = impatient.unwrap_err();
    assert_eq!(impatient.exit, Exit::Incomplete);
    assert!(impatient.to_string().starts_with("SIGINT came while stopping: "), "{impatient}");

    let failed = run::until_stopped(Duration::from_secs(20), |_| async {
        Err(Failure::new(Exit::NotAllowed, "x"))
    });
    assert_eq!(failed.unwrap_err().exit, Exit::NotAllowed);
}
