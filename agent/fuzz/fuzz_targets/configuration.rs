//! Any file of configuration and any variables are read or refused; what is read can be printed
//! and read again, and means the same.
//!
//! The input is the file; behind a first NUL follow variables, one a line: a character that
//! says which, and the value.
#![no_main]

use std::sync::LazyLock;

use libfuzzer_sys::fuzz_target;
use meshtap::config::reader::Read;
use meshtap::config::reference::{definitions, print};
use meshtap::config::{Config, Environment, RawConfig, document};

/// Those that OpenTelemetry defines.
const STANDARD: [&str; 16] = [
    "OTEL_BSP_MAX_EXPORT_BATCH_SIZE",
    "OTEL_BSP_MAX_QUEUE_SIZE",
    "OTEL_BSP_SCHEDULE_DELAY",
    "OTEL_EXPORTER_OTLP_CERTIFICATE",
    "OTEL_EXPORTER_OTLP_COMPRESSION",
    "OTEL_EXPORTER_OTLP_ENDPOINT",
    "OTEL_EXPORTER_OTLP_HEADERS",
    "OTEL_EXPORTER_OTLP_TRACES_PROTOCOL",
    "OTEL_EXPORTER_OTLP_TRACES_TIMEOUT",
    "OTEL_LOGS_EXPORTER",
    "OTEL_METRIC_EXPORT_INTERVAL",
    "OTEL_SDK_DISABLED",
    "OTEL_SEMCONV_STABILITY_OPT_IN",
    "OTEL_TRACES_EXPORTER",
    "OTEL_TRACES_SAMPLER",
    "OTEL_TRACES_SAMPLER_ARG",
];

static NAMES: LazyLock<Vec<String>> = LazyLock::new(|| {
    let keys = definitions().into_iter().filter_map(|read| match read {
        Read::Key(entry) => Some(Environment::name(&entry.path)),
        Read::Section { .. } => None,
    });
    STANDARD.into_iter().map(str::to_owned).chain(keys).collect()
});

fn variable(line: &str) -> Option<(String, String)> {
    let first = line.chars().next()?;
    let name = &NAMES[first as usize % NAMES.len()];
    Some((name.clone(), line[first.len_utf8()..].to_owned()))
}

fuzz_target!(|text: &str| {
    let (text, variables) = text.split_once('\0').unwrap_or((text, ""));
    let read = document::parse(text);
    if let Err(faults) = &read {
        assert!(!faults.is_empty(), "a refusal says why");
    }
    let raw = match RawConfig::default().with_text("m.yaml", text) {
        Ok(raw) => raw,
        Err(_) => return assert!(read.is_err()),
    };
    let environment = variables.lines().filter_map(variable).collect();
    let (config, read) = match Config::read(&RawConfig { environment, ..raw }) {
        Ok(valid) => valid,
        Err(problems) => {
            return assert!(!problems.to_string().is_empty(), "a refusal says why");
        }
    };
    let printed = print(&read);
    if printed.contains("hidden") {
        // What is secret is not printed.
        return;
    }
    let raw = RawConfig::default().with_text("printed.yaml", &printed);
    let raw = raw.unwrap_or_else(|error| panic!("{error}\n{printed}"));
    let (again, _) = Config::read(&raw).unwrap_or_else(|error| panic!("{error}\n{printed}"));
    assert!(again == config, "{printed}");
});
