//! Ringback: the gateway between WebRTC and the telephone network.

#![allow(clippy::disallowed_methods)] // the shell: this is where time comes from

use std::io::IsTerminal;
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::time::{SystemTime, UNIX_EPOCH};

use anyhow::Context;
use clap::{Parser, Subcommand};
use ringback::config::{Auth, Config, Log};
use ringback::dialplan::{Caller, Decision};
use ringback::gateway::{Gateway, Ready};
use ringback::signal::Claims;
use tokio::signal::unix::{SignalKind, signal};
use tokio::sync::mpsc;
use tracing_subscriber::EnvFilter;

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
        listen: Option<std::net::SocketAddr>,
    },
    /// Check the configuration and run the dial plans' tests, then exit
    Check,
    /// Explain what would happen if USER called NUMBER, and why
    Route {
        /// Who calls
        user: String,
        /// What they dial
        number: String,
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
    },
    /// Print the JSON Schema of the browser protocol
    Schema,
}

fn main() -> ExitCode {
    match start(Arguments::parse()) {
        Ok(()) => ExitCode::SUCCESS,
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

fn start(arguments: Arguments) -> anyhow::Result<()> {
    let file = arguments.config.as_deref();
    match arguments.command {
        None => run(load(file)?),
        Some(Command::Run { listen }) => {
            let mut config = load(file)?;
            config.http.listen = listen.unwrap_or(config.http.listen);
            run(config)
        }
        Some(Command::Check) => check(file),
        Some(Command::Route { user, number, class, json }) => route(&load(file)?, user, &number, class, json),
        Some(Command::Token { user, expires, destinations, caller_id }) => {
            token(&load(file)?, user, expires, destinations, caller_id)
        }
        Some(Command::Schema) => {
            println!("{}", ringback::signal::json_schema());
            Ok(())
        }
    }
}

fn load(file: Option<&Path>) -> anyhow::Result<Config> {
    Ok(match file {
        Some(path) => Config::load(path)?,
        None => Config::embedded()?,
    })
}

fn check(file: Option<&Path>) -> anyhow::Result<()> {
    let config = load(file)?;
    let name = file.map_or("the embedded default".into(), |f| f.display().to_string());
    for trunk in &config.trunks {
        println!("{trunk}");
    }
    if let Some(phones) = &config.phones {
        println!("phones of {} users register as {}", phones.registrar.users.len(), phones.registrar.realm);
    }
    println!("{name}: good. {} trunks; every dial plan test passed.", config.trunks.len());
    Ok(())
}

fn route(config: &Config, user: String, number: &str, class: Option<String>, json: bool) -> anyhow::Result<()> {
    let caller = Caller { user, class, ..Caller::default() };
    let routed = config.plan.route_out(&caller, number, i64::try_from(unix_now()).unwrap_or(i64::MAX));
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

fn token(
    config: &Config,
    user: String,
    expires: u64,
    destinations: Vec<String>,
    caller_id: Option<String>,
) -> anyhow::Result<()> {
    let Auth::Token { secret: Some(secret), .. } = &config.auth else {
        anyhow::bail!("there is no HS256 secret to sign with; see [auth] in docs/configuration.md");
    };
    let claims = Claims {
        sub: user,
        destinations: (!destinations.is_empty()).then_some(destinations),
        caller_id,
        max_duration: None,
        class: None,
        exp: unix_now().saturating_add(expires),
        nbf: None,
    };
    println!("{}", ringback::signal::sign_hs256(secret.reveal(), &claims));
    Ok(())
}

fn unix_now() -> u64 {
    SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |d| d.as_secs())
}

fn run(config: Config) -> anyhow::Result<()> {
    start_log(&config.log)?;
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .worker_threads(2) // one for the driver, one for the transports: media has threads of its own
        .enable_all()
        .build()
        .context("cannot start the runtime")?;
    runtime.block_on(async {
        let gateway = Gateway::bind(config).await?;
        announce(gateway.ready());
        let mut terminate = signal(SignalKind::terminate()).context("cannot take SIGTERM")?;
        let mut interrupt = signal(SignalKind::interrupt()).context("cannot take SIGINT")?;
        let (ask, stop) = mpsc::channel(2);
        let signals = async move {
            // The first asks to stop, the second not to wait for calls, the third not to wait for anything.
            for asked in 1.. {
                tokio::select! { _ = terminate.recv() => {}, _ = interrupt.recv() => {} }
                if asked > 2 {
                    return;
                }
                let _ = ask.try_send(()); // it has room for both; the driver may be gone already
            }
        };
        tokio::select! {
            () = gateway.run(stop) => Ok(()),
            () = signals => Err(anyhow::anyhow!("asked three times to stop: ended at once, calls may be left behind")),
        }
    })
}

/// Logs go to standard error; standard output is for CDRs and answers.
fn start_log(log: &Log) -> anyhow::Result<()> {
    let filter = match std::env::var("RUST_LOG") {
        Ok(filter) => EnvFilter::try_new(filter).context("RUST_LOG")?,
        Err(_) => EnvFilter::try_new(&log.level).context("[log] level")?,
    };
    let builder = tracing_subscriber::fmt().with_env_filter(filter).with_writer(std::io::stderr);
    if log.json {
        builder.json().init();
    } else {
        builder.with_ansi(std::io::stderr().is_terminal()).init();
    }
    Ok(())
}

/// Tells a person where to go, and a test what was bound.
fn announce(ready: &Ready) {
    tracing::info!(http = %ready.http, media = ?ready.media, sip_udp = ?ready.sip_udp, sip_tcp = ?ready.sip_tcp, "listening");
    let host =
        if ready.http.ip().is_loopback() { format!("localhost:{}", ready.http.port()) } else { ready.http.to_string() };
    eprintln!("Ringback is ready: open http://{host}/");
    if ready.test_phone.is_some() {
        eprintln!("The built-in test phone answers 600 (echo), 601 (prompt), 602 (digits), 603 to 606. Ctrl-C ends.");
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_cause_is_told_once() {
        let error = anyhow::anyhow!("no such file").context("x: cannot be read: no such file").context("cannot start");
        assert_eq!(told(&error), "cannot start: x: cannot be read: no such file");
    }
}
