//! Tests of program.

use super::*;

fn named(executable: &str, line: &[&str]) -> String {
    let arguments: Vec<String> = line.iter().map(|word| (*word).to_owned()).collect();
    name(executable, &arguments)
}

#[test]
fn executables_are_called_by_their_base_name() {
    assert_eq!(named("/usr/bin/curl", &["curl", "http://a/"]), "curl");
    assert_eq!(named("/usr/sbin/nginx", &["nginx: master process nginx"]), "nginx");
    assert_eq!(named("/opt/shop/server (deleted)", &["./server"]), "server");
    assert_eq!(named("/usr/sbin/php-fpm8.2", &["php-fpm: pool www"]), "php-fpm8.2");
    assert_eq!(named("/usr/lib/postgresql/15/bin/postgres", &["postgres: writer"]), "postgres");
    assert_eq!(named("curl", &[]), "curl");
    assert_eq!(named("/bin/busybox", &["wget", "-O-", "http://a"]), "wget");
    assert_eq!(named("/bin/busybox", &["busybox", "httpd", "-f"]), "httpd");
    assert_eq!(named("/bin/busybox", &[]), "busybox");
    assert_eq!(named("", &[]), "");
}

#[test]
fn python_yields_script_or_module() {
    let exe = "/usr/bin/python3.11";
    for (line, expected) in [
        (&["python3", "/srv/shop/app.py"][..], "app"),
        (&["python3", "-u", "app.py", "--port", "1"], "app"),
        (&["python3", "-m", "flask", "run"], "flask"),
        (&["python3", "-um", "http.server", "8000"], "http.server"),
        (&["python3", "-mhttp.server"], "http.server"),
        (&["python3", "-W", "ignore", "-X", "dev", "manage.py", "runserver"], "manage"),
        (&["python3", "-Wignore", "worker"], "worker"),
        (&["python3", "-OO", "-B", "--check-hash-based-pycs", "never", "a.pyc"], "a"),
        (&["python3", "-c", "import app.py"], "python"),
        (&["python3", "-Ic", "import app"], "python"),
        (&["python3", "-"], "python"),
        (&["python3"], "python"),
        (&["/usr/bin/python3", "/usr/local/bin/gunicorn", "shop:app"], "gunicorn"),
        (&["/usr/bin/python3", "/usr/local/bin/uvicorn", "shop:app"], "uvicorn"),
        (&["gunicorn: master [shop:app]"], "gunicorn"),
        (&["gunicorn: worker [shop:app]", "", ""], "gunicorn"),
        (&["celeryd: worker@host"], "celeryd"),
        (&["python3", "-m"], "python"),
    ] {
        assert_eq!(named(exe, line), expected, "{line:?}");
    }
    assert_eq!(named("/usr/bin/pypy3", &["pypy3", "a.py"]), "a");
    assert_eq!(named("python3", &[]), "python");
}

#[test]
fn node_deno_and_bun_yield_the_script() {
    for (exe, line, expected) in [
        ("/usr/bin/node", &["node", "server.js"][..], "server"),
        ("/usr/bin/node", &["node", "--require", "./trace.js", "server.js"], "server"),
        ("/usr/bin/node", &["node", "-r", "dotenv/config", "/srv/api/index.mjs"], "index"),
        ("/usr/bin/node", &["node", "--max-old-space-size=4096", "--inspect", "x.cjs"], "x"),
        ("/usr/bin/node", &["node", "--import", "tsx", "src/main.ts"], "main"),
        ("/usr/bin/node", &["node", "-e", "require('http')"], "node"),
        ("/usr/bin/node", &["node", "-pe", "1"], "node"),
        ("/usr/bin/node", &["node", "--eval=1"], "node"),
        ("/usr/bin/node", &["node", "/usr/bin/npm", "start"], "npm"),
        ("/usr/bin/nodejs", &["nodejs"], "nodejs"),
        ("/usr/bin/deno", &["deno", "run", "-A", "--allow-net=a", "main.ts"], "main"),
        ("/usr/bin/deno", &["deno", "serve", "--port", "8000", "api.ts"], "api"),
        ("/usr/bin/deno", &["deno", "eval", "1"], "deno"),
        ("/usr/bin/bun", &["bun", "run", "web.tsx"], "web"),
        ("/usr/bin/bun", &["bun", "--preload", "a.ts", "web.ts"], "web"),
    ] {
        assert_eq!(named(exe, line), expected, "{line:?}");
    }
}

#[test]
fn ruby_perl_php_shells_and_others() {
    for (exe, line, expected) in [
        ("/usr/bin/ruby3.1", &["ruby", "bin/rails", "server"][..], "rails"),
        ("/usr/bin/ruby3.1", &["ruby", "-I", "lib", "-rjson", "app.rb"], "app"),
        ("/usr/bin/ruby3.1", &["puma 5.6 (tcp://0.0.0.0:3000) [shop]"], "puma"),
        ("/usr/bin/ruby3.1", &["ruby", "-e", "1"], "ruby"),
        ("/usr/bin/perl", &["perl", "-w", "-Mstrict", "app.pl"], "app"),
        ("/usr/bin/perl", &["perl", "-I", "lib", "-T", "app.psgi"], "app"),
        ("/usr/bin/perl5.36.0", &["perl", "-ne", "print"], "perl"),
        ("/usr/bin/perl", &["perl", "-i", "file.pl"], "file"),
        (
            "/usr/bin/php8.2",
            &["php", "-S", "127.0.0.1:8000", "-t", "public", "router.php"],
            "router",
        ),
        ("/usr/bin/php8.2", &["php", "-S", "127.0.0.1:8000"], "php"),
        ("/usr/bin/php8.2", &["php", "-d", "a=b", "-f", "job.php"], "job"),
        ("/usr/bin/php", &["php", "artisan", "serve"], "artisan"),
        ("/usr/bin/php", &["php", "-r", "echo 1;"], "php"),
        ("/usr/bin/bash", &["bash", "/opt/run.sh", "x"], "run"),
        ("/usr/bin/bash", &["/bin/bash", "-eu", "-o", "pipefail", "./probe"], "probe"),
        ("/usr/bin/bash", &["bash", "-ec", "curl x"], "bash"),
        ("/usr/bin/bash", &["-bash"], "bash"),
        ("/usr/bin/dash", &["sh", "-c", "a"], "dash"),
        ("/usr/bin/dotnet", &["dotnet", "Shop.Api.dll"], "Shop.Api"),
        ("/usr/bin/dotnet", &["dotnet", "exec", "--depsfile", "x", "a/Api.dll"], "Api"),
        ("/usr/bin/lua5.4", &["lua", "-l", "json", "x.lua"], "x"),
        (
            "/lib64/ld-linux-x86-64.so.2",
            &["ld.so", "--library-path", "/l", "/opt/a/server"],
            "server",
        ),
    ] {
        assert_eq!(named(exe, line), expected, "{line:?}");
    }
}

#[test]
fn java_yields_main_class_module_or_jar() {
    let exe = "/usr/lib/jvm/java-17-openjdk-amd64/bin/java";
    for (line, expected) in [
        (&["java", "-jar", "app.jar"][..], "app"),
        (
            &["java", "-Xmx1g", "-Dx=y", "-jar", "/srv/shop-api-1.4.2-SNAPSHOT.jar", "--server"],
            "shop-api",
        ),
        (
            &["java", "-javaagent:/a.jar", "-cp", "a.jar:b.jar", "com.example.shop.Main", "arg"],
            "com.example.shop.Main",
        ),
        (&["java", "-classpath", "x", "-XX:+UseG1GC", "Server"], "Server"),
        (&["java", "--class-path=x", "Server"], "Server"),
        (&["java", "--add-opens", "java.base/java.lang=ALL-UNNAMED", "Server"], "Server"),
        (&["java", "-p", "mods", "-m", "com.shop/com.shop.Main"], "com.shop"),
        (&["java", "--module=com.shop/com.shop.Main"], "com.shop"),
        (&["java", "@args", "Server"], "Server"),
        (&["java", "/srv/Server.java"], "Server"),
        (&["java", "-jar"], "java"),
        (&["java"], "java"),
        (&["java", "-jar", "log4j-2.jar"], "log4j-2"),
    ] {
        assert_eq!(named(exe, line), expected, "{line:?}");
    }
    assert_eq!(named(exe, &[]), "java");
}
