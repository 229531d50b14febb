//! What a process is called by its executable and command line.
//!
//! A name is the executable's base name. An interpreter yields what it runs instead:
//! a script's base name without its language's extension, a `-m` module, a Java main
//! class (whole) or a jar's base name without `.jar` and version. An interpreter with
//! code on its command line, or on standard input, is called by its family (`python`,
//! not `python3.11`), so that an upgrade renames nothing.

mod interpreter;

use interpreter::{INTERPRETERS, Interpreter};

/// Options of `java` whose value is the next argument.
const JAVA_VALUED: [&str; 14] = [
    "-cp",
    "-classpath",
    "--class-path",
    "-p",
    "--module-path",
    "--upgrade-module-path",
    "--add-modules",
    "--add-opens",
    "--add-exports",
    "--add-reads",
    "--limit-modules",
    "--patch-module",
    "--source",
    "--enable-native-access",
];
/// Executables that are many programs, told apart by `argv[0]`.
const MULTI_CALL: [&str; 3] = ["busybox", "toybox", "coreutils"];

/// The service name of a process. `executable` is a path or a name; `arguments` may be
/// empty (the process was gone before they could be read).
#[must_use]
pub fn name(executable: &str, arguments: &[String]) -> String {
    let executable = executable.strip_suffix(" (deleted)").unwrap_or(executable);
    let base = base_name(executable);
    if MULTI_CALL.contains(&base) {
        return applet(base, arguments);
    }
    let family = without_version(base);
    let run = if family == "java" {
        if retitled(base, arguments) { title(arguments) } else { java(arguments) }
    } else if let Some(interpreter) = INTERPRETERS.iter().find(|one| one.names.contains(&family)) {
        if retitled(base, arguments) { title(arguments) } else { script(interpreter, arguments) }
    } else {
        return base.to_owned();
    };
    run.filter(|name| !name.is_empty()).unwrap_or_else(|| family.to_owned())
}

/// The service name where only the name of the executed file is known: a script's loses
/// its extension, as it does where the command line could be read.
#[must_use]
pub fn file_name(path: &str) -> String {
    let name = name(path, &[]);
    let extensions = INTERPRETERS.iter().flat_map(|interpreter| interpreter.extensions);
    let stem = extensions.filter_map(|extension| name.strip_suffix(extension)).next();
    stem.filter(|stem| !stem.is_empty()).map_or_else(|| name.clone(), str::to_owned)
}

/// The last component of a path.
#[must_use]
pub fn base_name(path: &str) -> &str {
    let path = path.trim_end_matches('/');
    path.rsplit_once('/').map_or(path, |(_, base)| base)
}

/// `python3.11` is `python`, `ld-linux-x86-64.so.2` is `ld-linux-x86-64.so`; a name of digits alone stays.
fn without_version(base: &str) -> &str {
    let bare = base.trim_end_matches(|letter: char| letter.is_ascii_digit() || letter == '.');
    let bare = bare.strip_suffix('-').unwrap_or(bare);
    if bare.is_empty() { base } else { bare }
}

fn applet(base: &str, arguments: &[String]) -> String {
    let mut words = arguments.iter().map(|word| base_name(word.trim_start_matches('-')));
    match words.next() {
        Some(first) if first != base && !first.is_empty() => first.to_owned(),
        Some(_) => words.next().filter(|word| !word.is_empty()).unwrap_or(base).to_owned(),
        None => base.to_owned(),
    }
}

/// Whether the process wrote a title over its arguments, as gunicorn and puma do: one
/// text with spaces where the interpreter's path should stand.
fn retitled(base: &str, arguments: &[String]) -> bool {
    let Some(first) = arguments.first() else { return false };
    let rest_is_empty = arguments.iter().skip(1).all(String::is_empty);
    rest_is_empty
        && first.contains([' ', ':'])
        && without_version(base_name(first.split([' ', ':']).next().unwrap_or_default()))
            != without_version(base)
}

fn title(arguments: &[String]) -> Option<String> {
    let word = arguments.first()?.split([' ', ':']).find(|word| !word.is_empty())?;
    Some(base_name(word).to_owned())
}

fn script(interpreter: &Interpreter, arguments: &[String]) -> Option<String> {
    let mut words = arguments.iter().skip(1).map(String::as_str);
    let mut commanded = false;
    while let Some(word) = words.next() {
        if word == "--" {
            return words.next().map(|path| stem(interpreter, path));
        }
        if word == "-" {
            return None;
        }
        if interpreter.inline.contains(&word) {
            return None;
        }
        let shell = interpreter.names.contains(&"sh");
        let is_option = word.starts_with('-') || (shell && word.starts_with('+'));
        if !is_option {
            if !commanded && interpreter.commands.contains(&word) {
                commanded = true;
                continue;
            }
            return Some(stem(interpreter, word));
        }
        match option(interpreter, word) {
            Meaning::Plain => {}
            Meaning::TakesNext => drop(words.next()),
            Meaning::Inline => return None,
            Meaning::Script("") => {
                return words.next().map(|path| stem(interpreter, path));
            }
            Meaning::Script(path) => return Some(stem(interpreter, path)),
            Meaning::Module("") => return words.next().map(str::to_owned),
            Meaning::Module(module) => return Some(module.to_owned()),
        }
    }
    None
}

/// What an option does to the arguments behind it.
enum Meaning<'a> {
    Plain,
    TakesNext,
    Inline,
    Script(&'a str),
    Module(&'a str),
}

fn option<'a>(interpreter: &Interpreter, word: &'a str) -> Meaning<'a> {
    if word.starts_with("--") || !interpreter.clusters {
        let key = word.split_once('=').map_or(word, |(key, _)| key);
        return match (interpreter.inline.contains(&key), interpreter.worded.contains(&word)) {
            (true, _) => Meaning::Inline,
            (_, true) => Meaning::TakesNext,
            _ => Meaning::Plain,
        };
    }
    for (at, letter) in word.char_indices().skip(1) {
        let text = &word[at..at + letter.len_utf8()];
        let rest = &word[at + letter.len_utf8()..];
        if interpreter.inline.contains(&text) {
            return Meaning::Inline;
        }
        if interpreter.module.contains(&text) {
            return Meaning::Module(rest);
        }
        if letter == 'f' && interpreter.names.contains(&"php") {
            return Meaning::Script(rest);
        }
        if interpreter.valued.contains(letter) {
            // Perl's switches take their values only from the same argument, but for -I.
            let attached = interpreter.names.contains(&"perl") && letter != 'I';
            return if rest.is_empty() && !attached { Meaning::TakesNext } else { Meaning::Plain };
        }
    }
    Meaning::Plain
}

fn stem(interpreter: &Interpreter, path: &str) -> String {
    let base = base_name(path);
    interpreter
        .extensions
        .iter()
        .find_map(|extension| base.strip_suffix(extension))
        .filter(|stem| !stem.is_empty())
        .unwrap_or(base)
        .to_owned()
}

fn java(arguments: &[String]) -> Option<String> {
    let mut words = arguments.iter().skip(1).map(String::as_str);
    while let Some(word) = words.next() {
        match word {
            "-jar" => return words.next().map(jar),
            "-m" | "--module" => return words.next().map(module),
            _ if JAVA_VALUED.contains(&word) => drop(words.next()),
            _ => {}
        }
        if let Some(value) = word.strip_prefix("--module=") {
            return Some(module(value));
        }
        if !word.starts_with('-') && !word.starts_with('@') && !JAVA_VALUED.contains(&word) {
            let source = word.strip_suffix(".java").map(base_name);
            return Some(source.unwrap_or(word).to_owned());
        }
    }
    None
}

fn module(value: &str) -> String {
    value.split_once('/').map_or(value, |(module, _)| module).to_owned()
}

/// `shop-api-1.4.2-SNAPSHOT.jar` is `shop-api`.
fn jar(path: &str) -> String {
    let base = base_name(path);
    let base = base.strip_suffix(".jar").or_else(|| base.strip_suffix(".war")).unwrap_or(base);
    let version = base
        .match_indices('-')
        .find(|(at, _)| base[at + 1..].starts_with(|letter: char| letter.is_ascii_digit()));
    match version {
        Some((at, _)) if at > 0 && base[at..].contains('.') => base[..at].to_owned(),
        _ => base.to_owned(),
    }
}

#[cfg(test)]
mod tests;
