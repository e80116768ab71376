//! The master: parses the flags, opens the index, serves, and sets the exit status.

use std::net::{IpAddr, SocketAddr};
use std::process::ExitCode;

use davkv::access::Access;
use davkv::config::{self, Master};
#[cfg(feature = "s3")]
use davkv::front::Front;
use davkv::index::Index;
use davkv::logs;
use davkv::memory;
use davkv::native;
use davkv::runtime;
#[cfg(feature = "s3")]
use davkv::s3;
use davkv::store::{self, Store};
use davkv::volume::Volumes;
use davkv::wire::server::{self, Workers};
use tokio::net::TcpListener;
use tokio::signal::unix::{Signal, SignalKind, signal};
use tokio_util::sync::CancellationToken;

fn main() -> ExitCode {
    let flags = match config::parse::<Master>() {
        Ok(flags) => flags,
        Err(code) => return code,
    };
    logs::start(flags.common.verbose);
    memory::prepare();
    match runtime::run_here(serve(flags)) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("davkv: {error}");
            ExitCode::FAILURE
        }
    }
}

async fn serve(flags: Master) -> Result<(), String> {
    // first of all, so that no signal is lost during start-up
    let interrupt = signal(SignalKind::interrupt()).map_err(|error| error.to_string())?;
    let terminate = signal(SignalKind::terminate()).map_err(|error| error.to_string())?;
    let hangup = signal(SignalKind::hangup()).map_err(|error| error.to_string())?;
    let access = flags.credentials.as_deref().map_or_else(|| Ok(Access::unrestricted()), Access::load)?;
    let store = open(&flags).await?;
    // who connects before the store is ready waits
    let listener = listen(flags.address, flags.port, "--port")?;
    #[cfg(feature = "s3")]
    let s3_listener = flags.s3.port.map(|port| listen(flags.address, port, "--s3-port")).transpose()?;
    let stop = stop_at(interrupt, terminate);
    // finding out whose the volumes are may take a while
    let started = tokio::select! {
        biased;
        () = stop.cancelled() => None,
        started = store.start() => Some(started),
    };
    let Some(started) = started else {
        // the volumes may know of this run by now
        store.stop(flags.grace).await;
        return Ok(());
    };
    started.map_err(|error| error.to_string())?;
    let workers = Workers::start().map_err(|error| format!("can't start threads: {error}"))?;
    if access.is_unrestricted() {
        tracing::warn!("no --credentials: anybody may read, write and delete everything");
    }
    tokio::spawn(memory::give_back());
    tokio::spawn(reload(access.clone(), hangup));
    tracing::info!("listening on {}", address(&listener)?);
    let taken_over = store.taken_over();
    tokio::spawn(stop_if_taken_over(taken_over.clone(), stop.clone()));
    let (places, grace) = (flags.connections, flags.grace);
    let native = native::Api::new(store.clone(), flags.fallback.as_deref(), access.clone());
    #[cfg(feature = "s3")]
    let left = {
        let s3 = s3::Api::new(store.clone(), access, flags.s3.options());
        let front = Front::new(native, s3.clone());
        let both = move |context, request| front.answer(context, request);
        let both = server::serve(listener, &workers, both, places, stop.cancelled(), grace);
        match s3_listener {
            None => both.await,
            Some(listener) => {
                tracing::info!("listening on {} (S3 only)", address(&listener)?);
                let s3 = move |context, request| s3.clone().answer(context, request);
                let s3 = server::serve(listener, &workers, s3, places, stop.cancelled(), grace);
                let (one, other) = tokio::join!(both, s3);
                one.min(other)
            }
        }
    };
    #[cfg(not(feature = "s3"))]
    let left = {
        let answer = move |context, request| native.clone().answer(context, request);
        server::serve(listener, &workers, answer, places, stop.cancelled(), grace).await
    };
    // unfinished writes run on the workers
    store.stop(left).await;
    drop(workers);
    if taken_over.is_cancelled() {
        return Err(
            "another master has taken the volumes over: only one may run, with one copy of the index".into(),
        );
    }
    Ok(())
}

/// Opens the index, a new one only if no store is on the volumes, and the store over it.
async fn open(flags: &Master) -> Result<Store, String> {
    let options = store::Options {
        replaced: flags.replaced.clone(),
        client_idle: flags.clienttimeout,
        protect: flags.protect,
        recheck: flags.recheck,
        upload_expiry: flags.upload_expiry,
        ..flags.common.store(flags.readergrace)
    };
    let (placement, timeouts, addresses) = (&options.placement, options.timeouts, flags.common.addresses());
    if Index::would_be_new(&flags.common.db) {
        store::check_for_a_new_index(placement, &addresses, timeouts).await?;
    }
    let (db, how) = (flags.common.db.clone(), flags.common.index(true));
    let index = runtime::blocking(move || Index::open(&db, how)).await?.map_err(|error| error.to_string())?;
    let addresses = store::follow(&index, placement, addresses, timeouts).await;
    let addresses = addresses.map_err(|error| error.to_string())?;
    Ok(Store::new(index, Volumes::new(addresses, timeouts).verified(), options))
}

/// Stops when another program with a copy of the index has taken the volumes over.
async fn stop_if_taken_over(taken_over: CancellationToken, stop: CancellationToken) {
    tokio::select! {
        () = taken_over.cancelled() => stop.cancel(),
        () = stop.cancelled() => {}
    }
}

/// A token that is cancelled when one of these signals arrives.
fn stop_at(mut interrupt: Signal, mut terminate: Signal) -> CancellationToken {
    let stop = CancellationToken::new();
    let stopping = stop.clone();
    tokio::spawn(async move {
        tokio::select! {
            _ = interrupt.recv() => {}
            _ = terminate.recv() => {}
        }
        tracing::info!("stopping");
        stopping.cancel();
    });
    stop
}

fn listen(address: Option<IpAddr>, port: u16, flag: &str) -> Result<TcpListener, String> {
    server::listen(address, port)
        .map_err(|error| format!("can't serve on port {port}: {error}: try another {flag}"))
}

fn address(listener: &TcpListener) -> Result<SocketAddr, String> {
    listener.local_addr().map_err(|error| error.to_string())
}

/// Reads the file of keys again at each SIGHUP.
async fn reload(access: Access, mut hangup: Signal) {
    while hangup.recv().await.is_some() {
        if access.is_unrestricted() {
            tracing::info!("SIGHUP ignored: there is no --credentials file to read again");
            continue;
        }
        let reading = access.clone();
        match runtime::blocking(move || reading.reload()).await.map_err(String::from).flatten() {
            Ok(()) => tracing::info!("the keys were read again"),
            Err(error) => tracing::error!("the keys stay as they were: {error}"),
        }
    }
}
