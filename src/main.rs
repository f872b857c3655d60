//! Ringback: the gateway between WebRTC and the telephone network.

#![allow(clippy::disallowed_methods)] // the shell: this is where time comes from

#[path = "main/show.rs"]
mod show;
#[path = "main/trace.rs"]
mod trace;

use std::io::IsTerminal;
use std::net::SocketAddr;
use std::os::unix::process::CommandExt as _;
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use anyhow::Context;
use clap::{Parser, Subcommand};
use rand::TryRng as _;
use rand::rngs::SysRng;
use ringback::config::{Auth, Config, LoadError, Log, Unlimited};
use ringback::dialplan::{Caller, Decision};
use ringback::gateway::doctor::{Report, Running, Verdict};
use ringback::gateway::{Ask, Gateway, Ready, Source, control, doctor};
use ringback::signal::Claims;
use tokio::signal::unix::{SignalKind, signal};
use tokio::sync::mpsc;
use tracing_subscriber::filter::{dynamic_filter_fn, filter_fn};
use tracing_subscriber::layer::{Filter, Layer as _, SubscriberExt as _};
use tracing_subscriber::util::SubscriberInitExt as _;
use tracing_subscriber::{EnvFilter, fmt, reload};

/// The gateway between WebRTC and the telephone network: a browser calls a phone and a phone calls a browser.
///
/// Started with nothing it serves a softphone page on localhost and answers its own demo numbers.
#[derive(Debug, Parser)]
#[command(name = "ringback", version)]
struct Arguments {
    /// The configuration file; without it the embedded default runs, on localhost only
    #[arg(short, long, global = true, value_name = "FILE", env = "RINGBACK_CONFIG")]
    config: Option<PathBuf>,
    #[command(subcommand)]
    command: Option<Command>,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Run the gateway (the default)
    Run {
        /// Where to serve page and WebSockets, instead of [http] listen
        #[arg(long, value_name = "ADDRESS:PORT")]
        listen: Option<SocketAddr>,
    },
    /// Check the configuration and run the dial plans' tests, then exit
    Check {
        /// Print what is found as JSON
        #[arg(long)]
        json: bool,
    },
    /// Look at everything around the gateway: ports, addresses, certificates, clock, trunks, TURN, descriptors, disks; say what to change
    ///
    /// Beside a running gateway it asks that one; without it the ports are bound for a moment and the trunks asked by OPTIONS. Exit
    /// code: 0 good, 3 warnings, 1 failures.
    Doctor {
        /// Print what is found as JSON
        #[arg(long)]
        json: bool,
        /// The running gateway's control socket, instead of [control] socket
        #[arg(long, value_name = "PATH")]
        socket: Option<PathBuf>,
    },
    /// Explain what would happen if USER called NUMBER, and why
    Route {
        /// Who calls; with --trunk the caller's number
        user: String,
        /// What they dial; with --trunk the number called
        number: String,
        /// A call that this trunk brings, instead of a user's
        #[arg(long, value_name = "TRUNK")]
        trunk: Option<String>,
        /// When, by the plan's clocks ("2026-11-20 10:00") or with an offset ("2026-11-20T10:00:00Z"); now if absent
        #[arg(long, value_name = "TIME")]
        at: Option<String>,
        /// The user's own number
        #[arg(long, value_name = "NUMBER")]
        caller_id: Option<String>,
        /// A number, or a prefix ending in *, that the user's token lets them call; may be repeated
        #[arg(long = "destination", value_name = "NUMBER")]
        destinations: Vec<String>,
        /// What the rule's web hook would answer, JSON; nobody is asked
        #[arg(long, value_name = "JSON")]
        answer: Option<String>,
        /// The user's class, where the plan knows classes
        #[arg(long)]
        class: Option<String>,
        /// Print the decision as JSON
        #[arg(long)]
        json: bool,
    },
    /// Sign a session token with the [auth] HS256 secret of the configuration (for tests and first steps)
    Token {
        /// The user it is for
        user: String,
        /// Seconds until it expires
        #[arg(long, default_value_t = 3600)]
        expires: u64,
        /// A number, or a prefix ending in *, that may be called; may be repeated; without it the plan alone decides
        #[arg(long = "destination")]
        destinations: Vec<String>,
        /// The caller's number
        #[arg(long)]
        caller_id: Option<String>,
        /// The user's class in the dial plan
        #[arg(long)]
        class: Option<String>,
        /// Seconds that a call may last at most
        #[arg(long, value_name = "SECONDS")]
        max_duration: Option<u32>,
        /// Good for one call
        #[arg(long)]
        once: bool,
        /// Print the token with its user and end as JSON
        #[arg(long)]
        json: bool,
    },
    /// Make the running gateway read its configuration anew; calls go on
    Reload {
        /// Print what became of it as JSON
        #[arg(long)]
        json: bool,
        /// Its control socket, instead of [control] socket
        #[arg(long, value_name = "PATH")]
        socket: Option<PathBuf>,
    },
    /// Make the running gateway refuse new calls and end with its last one
    Drain {
        /// Seconds after which calls are hung up, instead of [shutdown] grace_seconds
        #[arg(long, value_name = "SECONDS")]
        grace: Option<u64>,
        /// Print the answer as JSON
        #[arg(long)]
        json: bool,
        /// Its control socket, instead of [control] socket
        #[arg(long, value_name = "PATH")]
        socket: Option<PathBuf>,
    },
    /// Print how the running gateway stands, as JSON
    Status {
        /// As it is in any case
        #[arg(long)]
        json: bool,
        /// Its control socket, instead of [control] socket
        #[arg(long, value_name = "PATH")]
        socket: Option<PathBuf>,
    },
    /// Show how each trunk of the running gateway stands: whether it answers and takes our registration, its calls, its last failure
    Trunks {
        /// Print them as JSON
        #[arg(long)]
        json: bool,
        /// Its control socket, instead of [control] socket
        #[arg(long, value_name = "PATH")]
        socket: Option<PathBuf>,
    },
    /// Try a trunk of the running gateway
    Trunk {
        #[command(subcommand)]
        what: TrunkCommand,
    },
    /// Show who is here: users signed in, by which door and from where, and their registered phones
    Users {
        /// This user alone
        user: Option<String>,
        /// Print them as JSON
        #[arg(long)]
        json: bool,
        /// Its control socket, instead of [control] socket
        #[arg(long, value_name = "PATH")]
        socket: Option<PathBuf>,
    },
    /// List the calls of the running gateway
    Calls {
        /// Print them as JSON
        #[arg(long)]
        json: bool,
        /// Its control socket, instead of [control] socket
        #[arg(long, value_name = "PATH")]
        socket: Option<PathBuf>,
    },
    /// Show one call of the running gateway: its legs, how they sound, what has become of it
    Call {
        /// The call's id
        id: String,
        /// Print it as JSON
        #[arg(long)]
        json: bool,
        /// Its control socket, instead of [control] socket
        #[arg(long, value_name = "PATH")]
        socket: Option<PathBuf>,
    },
    /// Show the limits against fraud of the running gateway: how much of each is used, by whom most, and what has tripped
    Limits {
        /// Print them as JSON
        #[arg(long)]
        json: bool,
        /// Its control socket, instead of [control] socket
        #[arg(long, value_name = "PATH")]
        socket: Option<PathBuf>,
    },
    /// End one call of the running gateway
    Hangup {
        /// The call's id
        id: String,
        /// Print the answer as JSON
        #[arg(long)]
        json: bool,
        /// Its control socket, instead of [control] socket
        #[arg(long, value_name = "PATH")]
        socket: Option<PathBuf>,
    },
    /// Show what was said about a call, browser's messages and SIP, as a ladder; without an id the calls that are kept
    Trace {
        /// The call's id
        id: Option<String>,
        /// Print it as JSON; with --follow one message a line
        #[arg(long)]
        json: bool,
        /// Each message whole below its arrow
        #[arg(long)]
        full: bool,
        /// Go on with what is said until the call is over
        #[arg(long, requires = "id", conflicts_with = "pcap")]
        follow: bool,
        /// Write its SIP to a file that tshark, Wireshark and sngrep open
        #[arg(long, value_name = "FILE", requires = "id", conflicts_with = "json")]
        pcap: Option<PathBuf>,
        /// Its control socket, instead of [control] socket
        #[arg(long, value_name = "PATH")]
        socket: Option<PathBuf>,
    },
    /// Measure what calls cost and how they sound: so many browsers call so many phones (`ringback bench --help`)
    ///
    /// The driver is a program of its own, ringback-bench, beside this one or in PATH; it is given all arguments.
    #[command(disable_help_flag = true)]
    Bench {
        /// See `ringback bench --help`
        #[arg(trailing_var_arg = true, allow_hyphen_values = true)]
        arguments: Vec<std::ffi::OsString>,
    },
    /// Print where the running gateway's live page is opened on this machine: calls, trunks, why calls fail. Its key is good for 12 hours
    Dashboard {
        /// Print it as JSON
        #[arg(long)]
        json: bool,
        /// Its control socket, instead of [control] socket
        #[arg(long, value_name = "PATH")]
        socket: Option<PathBuf>,
    },
    /// Print the description of call control over HTTP (OpenAPI 3.1)
    Openapi,
    /// Print the JSON Schema of the browser protocol
    Schema,
}

#[derive(Debug, Subcommand)]
enum TrunkCommand {
    /// Call a number by the trunk and measure: time to the answer, sound there and back, delay, digits; say what to change
    ///
    /// Best a number that echoes (and returns digits); a tone or an announcement shows one way. The call costs what any call
    /// costs. Takes about ten seconds from the answer. Exit code: 0 good, 3 warnings, 1 failures.
    Test {
        /// The trunk's name
        trunk: String,
        /// The number to call
        number: String,
        /// The caller's number, instead of the dial plan's own
        #[arg(long, value_name = "NUMBER")]
        from: Option<String>,
        /// Print what is found as JSON
        #[arg(long)]
        json: bool,
        /// Its control socket, instead of [control] socket
        #[arg(long, value_name = "PATH")]
        socket: Option<PathBuf>,
    },
}

fn main() -> ExitCode {
    match start(Arguments::parse()) {
        Ok(code) => code,
        Err(error) => {
            eprintln!("ringback: {}", told(&error));
            ExitCode::FAILURE
        }
    }
}

/// An error and its causes, without those whose words it has used already.
fn told(error: &anyhow::Error) -> String {
    error.chain().map(ToString::to_string).fold(String::new(), |said, cause| match said.as_str() {
        "" => cause,
        _ if said.contains(&cause) => said,
        _ => format!("{said}: {cause}"),
    })
}

fn start(arguments: Arguments) -> anyhow::Result<ExitCode> {
    let file = arguments.config.as_deref();
    let done = match arguments.command {
        Some(Command::Doctor { json, socket }) => return examine(file, socket, json),
        Some(Command::Trunk { what: TrunkCommand::Test { trunk, number, from, json, socket } }) => {
            let words = ["trunk-test", &trunk, &number].into_iter().chain(from.as_deref());
            let command = words.map(one_word).collect::<anyhow::Result<Vec<_>>>()?.join(" ");
            let answer = ask(file, socket, &command);
            let report: Option<Report> = serde_json::from_value(answer.clone()).ok();
            shown(&answer, json, |_| report.as_ref().map(show::report).unwrap_or_default())?;
            return Ok(code_of(report.map_or(Verdict::Fail, |report| report.verdict)));
        }
        None => run(file, None),
        Some(Command::Run { listen }) => run(file, listen),
        Some(Command::Reload { json, socket }) => shown(&ask(file, socket, "reload"), json, show::reloaded),
        Some(Command::Drain { grace, json, socket }) => {
            let command = grace.map_or_else(|| "drain".to_owned(), |seconds| format!("drain {seconds}"));
            let said = |_: &_| "draining: new calls are refused, and the gateway ends with its last one\n".to_owned();
            shown(&ask(file, socket, &command), json, said)
        }
        Some(Command::Status { socket, json: _ }) => shown(&ask(file, socket, "status"), true, |_| String::new()),
        Some(Command::Trunks { json, socket }) => shown(&ask(file, socket, "trunks"), json, show::trunks),
        Some(Command::Users { user, json, socket }) => {
            let command = user.map_or_else(|| "users".to_owned(), |user| format!("users {user}"));
            shown(&ask(file, socket, &command), json, show::users)
        }
        Some(Command::Limits { json, socket }) => shown(&ask(file, socket, "limits"), json, show::limits),
        Some(Command::Calls { json, socket }) => shown(&ask(file, socket, "calls"), json, show::calls),
        Some(Command::Call { id, json, socket }) => shown(&ask(file, socket, &format!("call {id}")), json, show::call),
        Some(Command::Hangup { id, json, socket }) => {
            shown(&ask(file, socket, &format!("hangup {id}")), json, |_| "the call is ended\n".to_owned())
        }
        Some(Command::Trace { id, json, full, follow, pcap, socket }) => {
            let how = trace::How { json, full, follow, pcap };
            trace::run(id.as_deref(), &how, |command| ask(file, socket.clone(), command))
        }
        Some(Command::Bench { arguments }) => Err(bench(arguments)),
        Some(Command::Dashboard { json, socket }) => {
            let url = |answer: &serde_json::Value| format!("{}\n", answer["url"].as_str().unwrap_or_default());
            shown(&ask(file, socket, "dashboard"), json, url)
        }
        Some(Command::Openapi) => {
            print!("{}", ringback::gateway::openapi());
            Ok(())
        }
        Some(Command::Check { json }) => check(file, json),
        Some(Command::Route { user, number, trunk, at, caller_id, destinations, answer, class, json }) => {
            let destinations = (!destinations.is_empty()).then_some(destinations);
            let caller = Caller { user, class, caller_id, destinations, ..Caller::default() };
            let question = RouteQuestion { caller, number, trunk, at, answer };
            route(&load_for(file, json)?, &question, json)
        }
        Some(Command::Token { user, expires, destinations, caller_id, class, max_duration, once, json }) => {
            let exp = unix_now().saturating_add(expires);
            let jti = once.then(token_name).transpose()?;
            let destinations = (!destinations.is_empty()).then_some(destinations);
            let claims = Claims { sub: user, destinations, caller_id, max_duration, class, jti, once, exp, nbf: None };
            token(&load_for(file, json)?, &claims, json)
        }
        Some(Command::Schema) => {
            println!("{}", ringback::signal::json_schema());
            Ok(())
        }
    };
    done.map(|()| ExitCode::SUCCESS)
}

/// Becomes the load driver; returns only with the reason why that cannot be.
fn bench(arguments: Vec<std::ffi::OsString>) -> anyhow::Error {
    const DRIVER: &str = "ringback-bench";
    let beside = std::env::current_exe().map(|program| program.with_file_name(DRIVER)).ok();
    let program = beside.filter(|program| program.is_file()).unwrap_or_else(|| DRIVER.into());
    let error = std::process::Command::new(program).args(arguments).exec();
    let missing = error.kind() == std::io::ErrorKind::NotFound;
    let what = if missing { "it is built by: cargo build --release -p ringback-bench" } else { "it does not start" };
    anyhow::Error::new(error).context(format!("the load driver, {DRIVER}: {what}"))
}

/// Looks at everything around the gateway. The exit code tells the worst: 0 good, 3 warnings, 1 failures.
fn examine(file: Option<&Path>, socket: Option<PathBuf>, json: bool) -> anyhow::Result<ExitCode> {
    let name = name_of(file);
    let report = match load(file) {
        Err(error) => Report::of_broken(told(&error)),
        Ok(config) => {
            // Without a file it is the embedded default that is looked at, which nobody controls.
            let asks = file.is_some() || socket.is_some();
            let running = if asks { Running::at(&control_socket(file, socket)) } else { None };
            let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
            runtime.block_on(doctor::examine(&name, &config, running.as_ref()))
        }
    };
    match json {
        true => println!("{}", serde_json::to_string_pretty(&report)?),
        false => print!("{}", show::report(&report)),
    }
    Ok(code_of(report.verdict))
}

/// An argument that is to be one word of a command.
fn one_word(argument: &str) -> anyhow::Result<&str> {
    let is_one = !argument.is_empty() && !argument.contains(char::is_whitespace);
    anyhow::ensure!(is_one, "{argument:?} is not one word: write numbers without spaces");
    Ok(argument)
}

/// The exit code that tells the worst that was found: 0 good, 3 warnings, 1 failures.
fn code_of(verdict: Verdict) -> ExitCode {
    match verdict {
        Verdict::Fail => ExitCode::FAILURE,
        Verdict::Warn => ExitCode::from(3),
        Verdict::Ok | Verdict::Untested => ExitCode::SUCCESS,
    }
}

/// What a person knows the configuration by.
fn name_of(file: Option<&Path>) -> String {
    file.map_or_else(|| "the embedded default".to_owned(), |file| file.display().to_string())
}

/// Prints an answer, for a program or for a person. One that says what is wrong is an error; a program is told it all the
/// same.
fn shown(answer: &serde_json::Value, json: bool, person: impl Fn(&serde_json::Value) -> String) -> anyhow::Result<()> {
    let error = answer["error"].as_str();
    match json {
        true => println!("{}", serde_json::to_string_pretty(answer)?),
        false if error.is_none() => print!("{}", person(answer)),
        false => {}
    }
    error.map_or(Ok(()), |error| Err(anyhow::anyhow!("{error}")))
}

fn load(file: Option<&Path>) -> anyhow::Result<Config> {
    Ok(configured(file, None)?)
}

/// The same for a command whose answer goes to a program, which is told of what is wrong too.
fn load_for(file: Option<&Path>, json: bool) -> anyhow::Result<Config> {
    load(file).or_else(|error| {
        shown(&serde_json::json!({"error": told(&error)}), json, |_| String::new())?;
        Err(error)
    })
}

/// The control socket: the one given, the one that the configuration names (which may be wrong in all other respects), or
/// the usual one.
fn control_socket(file: Option<&Path>, socket: Option<PathBuf>) -> PathBuf {
    let named = || {
        let file = file?;
        let text = std::fs::read_to_string(file).ok()?;
        Some(file.parent().unwrap_or(Path::new(".")).join(socket_in(&text)?))
    };
    let managed = || Some(Path::new(&std::env::var_os("RUNTIME_DIRECTORY")?).join("control.sock"));
    socket.or_else(named).or_else(managed).unwrap_or_else(|| control::DEFAULT_SOCKET.into())
}

/// Asks the running gateway. Where none answers, the answer says so as any other that says what is wrong.
fn ask(file: Option<&Path>, socket: Option<PathBuf>, command: &str) -> serde_json::Value {
    let socket = control_socket(file, socket);
    let answer = control::ask(&socket, command).with_context(|| {
        format!("no gateway answers at {} (see [control] socket, or say --socket PATH)", socket.display())
    });
    answer.unwrap_or_else(|error| serde_json::json!({"error": told(&error)}))
}

/// `[control] socket` of a file that may be wrong in all other respects, and no TOML.
fn socket_in(text: &str) -> Option<&str> {
    let mut lines = text.lines().map(str::trim).skip_while(|line| *line != "[control]").skip(1);
    let value = lines.by_ref().take_while(|line| !line.starts_with('[')).find_map(|line| {
        let (key, value) = line.split_once('=')?;
        (key.trim() == "socket").then_some(value.trim())
    })?;
    value.strip_prefix('"')?.split_once('"').map(|(socket, _)| socket)
}

fn check(file: Option<&Path>, json: bool) -> anyhow::Result<()> {
    let loaded = load(file);
    let name = name_of(file);
    if json {
        let error = loaded.as_ref().err().map(told);
        println!("{}", serde_json::to_string_pretty(&show::checked(&name, loaded.as_ref().ok(), error))?);
        return loaded.map(|_| ());
    }
    let config = loaded?;
    for trunk in &config.trunks {
        println!("{trunk}");
    }
    if let Some(phones) = &config.phones {
        println!("phones of {} users register as {}", phones.registrar.users.len(), phones.registrar.realm);
    }
    println!("{}", config.plan.summary());
    for Unlimited { section, why } in config.unlimited() {
        println!("warning: {section} is not set: {why}");
    }
    println!("{name}: good. {} trunks; every dial plan test passed.", config.trunks.len());
    Ok(())
}

/// What `ringback route` is asked.
struct RouteQuestion {
    caller: Caller,
    number: String,
    trunk: Option<String>,
    at: Option<String>,
    answer: Option<String>,
}

fn route(config: &Config, question: &RouteQuestion, json: bool) -> anyhow::Result<()> {
    let RouteQuestion { caller, number, trunk, at, answer } = question;
    let at = match at {
        Some(at) => config.plan.moment(at).map_err(|why| anyhow::anyhow!("--at: {why}"))?,
        None => i64::try_from(unix_now()).unwrap_or(i64::MAX),
    };
    let mut routed = match trunk {
        Some(trunk) => config.plan.route_in(trunk, number, &caller.user, at),
        None => config.plan.route_out(caller, number, at),
    };
    if let Some(answer) = answer {
        let (decision, wrong) = config.plan.answered(routed.decision, Some(answer));
        routed.decision = decision;
        if let Some(wrong) = wrong {
            eprintln!("ringback: --answer is none: {wrong}");
        }
    }
    if json {
        println!("{}", serde_json::to_string_pretty(&routed)?);
    } else {
        for step in &routed.steps {
            println!("  {step}");
        }
        println!("{}", routed.decision);
    }
    anyhow::ensure!(!matches!(routed.decision, Decision::Refuse { .. }), "the call would be refused");
    Ok(())
}

fn token(config: &Config, claims: &Claims, json: bool) -> anyhow::Result<()> {
    let Auth::Token { secret: Some(secret), .. } = &config.auth else {
        anyhow::bail!("there is no HS256 secret to sign with; see [auth] in docs/configuration.md");
    };
    let token = ringback::signal::sign_hs256(secret.reveal(), claims);
    match json {
        true => println!("{:#}", serde_json::json!({"token": token, "user": claims.sub, "expires": claims.exp})),
        false => println!("{token}"),
    }
    Ok(())
}

/// A name that no other token has (RFC 7519 section 4.1.7).
fn token_name() -> anyhow::Result<String> {
    let mut random = [0; 16];
    SysRng.try_fill_bytes(&mut random)?;
    Ok(format!("{:032x}", u128::from_be_bytes(random)))
}

fn unix_now() -> u64 {
    SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |d| d.as_secs())
}

/// The configuration as the program runs by it, now and at each reload.
fn configured(file: Option<&Path>, listen: Option<SocketAddr>) -> Result<Config, LoadError> {
    let mut config = match file {
        Some(path) => Config::load(path)?,
        None => Config::embedded()?,
    };
    config.http.listen = listen.unwrap_or(config.http.listen);
    Ok(config)
}

/// How long tasks that are left at the end may take, once everything is written or given up.
const LAST_TASKS_WITHIN: Duration = Duration::from_secs(1);

fn run(file: Option<&Path>, listen: Option<SocketAddr>) -> anyhow::Result<()> {
    let config = configured(file, listen)?;
    let set_log = start_log(&config.log)?;
    let path = file.map(Path::to_owned);
    let source = path.map(|path| Source::new(move || configured(Some(&path), listen), set_log));
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .worker_threads(2) // one for the driver, one for the transports: media has threads of its own
        .enable_all()
        .build()
        .context("cannot start the runtime")?;
    let ended = runtime.block_on(async {
        let gateway = Gateway::bind(config).await?;
        announce(gateway.ready());
        let mut terminate = signal(SignalKind::terminate()).context("cannot take SIGTERM")?;
        let mut interrupt = signal(SignalKind::interrupt()).context("cannot take SIGINT")?;
        let mut hangup = signal(SignalKind::hangup()).context("cannot take SIGHUP")?;
        let (ask, asks) = mpsc::channel(4);
        let reloads = source.is_some(); // without a file it is the end of the terminal
        let signals = async move {
            // The first asks to stop, the second not to wait for calls, the third not to wait for anything.
            let mut stops = 0;
            loop {
                let asked = tokio::select! {
                    _ = terminate.recv() => Ask::Stop,
                    _ = interrupt.recv() => Ask::Stop,
                    _ = hangup.recv() => if reloads { Ask::Reload } else { Ask::Stop },
                };
                stops += u32::from(asked == Ask::Stop);
                if stops > 2 {
                    return;
                }
                let _ = ask.try_send(asked); // the driver may be gone already; a reload beyond its room is one too many
            }
        };
        tokio::select! {
            () = gateway.run(asks, source) => Ok(()),
            () = signals => Err(anyhow::anyhow!("asked three times to stop: ended at once, calls may be left behind")),
        }
    });
    // A disk that hangs does not hold the process.
    runtime.shutdown_timeout(LAST_TASKS_WITHIN);
    ended
}

/// Logs go to standard error; standard output is for CDRs and answers.
///
/// Gives what sets filter and format anew. There is a layer for each format, of which one writes; both know the spans that are
/// open, so that those stand in what the other writes next.
fn start_log(log: &Log) -> anyhow::Result<impl Fn(&Log) -> Result<(), String> + Send + Sync + 'static> {
    let filter = match std::env::var("RUST_LOG") {
        Ok(filter) => EnvFilter::try_new(filter).context("RUST_LOG")?,
        Err(_) => EnvFilter::try_new(&log.level).context("[log] level")?,
    };
    let (filter, handle) = reload::Layer::new(filter);
    let json = Arc::new(AtomicBool::new(log.json));
    let text = fmt::layer().with_writer(std::io::stderr).with_ansi(std::io::stderr().is_terminal());
    let objects = fmt::layer().with_writer(std::io::stderr).json();
    let registry = tracing_subscriber::registry().with(filter).with(filter_fn(may_be_logged));
    registry.with(text.with_filter(writes(&json, false))).with(objects.with_filter(writes(&json, true))).init();
    Ok(move |log: &Log| {
        json.store(log.json, Ordering::Relaxed);
        if std::env::var_os("RUST_LOG").is_some() {
            return Ok(()); // it goes first, as at the start
        }
        let filter = EnvFilter::try_new(&log.level).map_err(|error| error.to_string())?;
        handle.reload(filter).map_err(|error| error.to_string())
    })
}

/// Whatever the filter says, libraries are heard from `info` up only: below it they write down what they carry, tokens and
/// keys in messages of WebSockets, and parameters of statements of a database, which are numbers.
fn may_be_logged(line: &tracing::Metadata<'_>) -> bool {
    *line.level() <= tracing::Level::INFO || line.target().split("::").next() == Some("ringback")
}

/// Lets a layer write while that is the format wanted: `json` or not.
fn writes<S>(json: &Arc<AtomicBool>, as_json: bool) -> impl Filter<S> + use<S> {
    let json = json.clone();
    dynamic_filter_fn(move |what, _| what.is_span() || json.load(Ordering::Relaxed) == as_json)
}

/// Tells a person where to go, and a test what was bound.
fn announce(ready: &Ready) {
    tracing::info!(http = %ready.http, api = ?ready.api, media = ?ready.media, sip_udp = ?ready.sip_udp, sip_tcp = ?ready.sip_tcp, "listening");
    let host =
        if ready.http.ip().is_loopback() { format!("localhost:{}", ready.http.port()) } else { ready.http.to_string() };
    let scheme = if ready.https { "https" } else { "http" };
    eprintln!("Ringback is ready: open {scheme}://{host}/");
    if ready.test_phone.is_some() {
        eprintln!("The built-in test phone answers 600 (echo), 601 (prompt), 602 (digits), 603 to 606. Ctrl-C ends.");
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_control_socket_is_found_in_a_broken_file() {
        let text = "[limits\nsocket = \"no\"\n [control]\n# socket = \"x\"\nsocket = \"run/c.sock\" # here\n[log]\n= =";
        assert_eq!(socket_in(text), Some("run/c.sock"));
        assert_eq!(socket_in("[control]\n[log]\nsocket = \"no\""), None);
    }

    #[test]
    fn a_cause_is_told_once() {
        let error = anyhow::anyhow!("no such file").context("x: cannot be read: no such file").context("cannot start");
        assert_eq!(told(&error), "cannot start: x: cannot be read: no such file");
    }
}
