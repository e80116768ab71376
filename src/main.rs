//! The master: parse, open, serve, exit code.

use std::process::ExitCode;

use davkv::access::Access;
use davkv::config::{self, Master};
use davkv::http::Api;
use davkv::index::Index;
use davkv::logs;
use davkv::server::{self, Workers};
use davkv::store::{self, Store};
use davkv::volume::Volumes;
use tokio::signal::unix::{Signal, SignalKind, signal};

fn main() -> ExitCode {
    let flags = match config::parse::<Master>() {
        Ok(flags) => flags,
        Err(code) => return code,
    };
    logs::start(flags.common.verbose);
    match davkv::run_here(serve(flags)) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("davkv: {error}");
            ExitCode::FAILURE
        }
    }
}

async fn serve(flags: Master) -> Result<(), String> {
    // signals first: one that arrives during start-up is not lost
    let mut interrupt = signal(SignalKind::interrupt()).map_err(|error| error.to_string())?;
    let mut terminate = signal(SignalKind::terminate()).map_err(|error| error.to_string())?;
    let hangup = signal(SignalKind::hangup()).map_err(|error| error.to_string())?;
    let access = flags.credentials.as_deref().map_or_else(|| Ok(Access::open()), Access::load)?;
    let (db, options) = (flags.common.db.clone(), flags.common.index(true));
    let index =
        davkv::blocking(move || Index::open(&db, options)).await?.map_err(|error| error.to_string())?;
    let options = store::Options {
        client_idle: flags.clienttimeout,
        protect: flags.protect,
        recheck: flags.recheck,
        upload_expiry: flags.upload_expiry,
        ..flags.common.store(flags.readergrace)
    };
    let store = Store::new(index, Volumes::new(options.patience), options);
    store.start().await.map_err(|error| error.to_string())?;
    let workers = Workers::start().map_err(|error| format!("can't start threads: {error}"))?;
    let listener = server::listen(flags.address, flags.port)
        .map_err(|error| format!("can't serve on port {}: {error}: try another --port", flags.port))?;
    let address = listener.local_addr().map_err(|error| error.to_string())?;
    if access.is_open() {
        tracing::warn!("everything is open: no --credentials");
    }
    tokio::spawn(reload(access.clone(), hangup));
    tracing::info!("listening on {address}");
    let stop = async {
        tokio::select! {
            _ = interrupt.recv() => {}
            _ = terminate.recv() => {}
        }
        tracing::info!("stopping");
    };
    let api = Api::new(store.clone(), flags.fallback.as_deref(), access);
    let answer = move |request| api.clone().answer(request);
    let left = server::serve(listener, &workers, answer, flags.connections, stop, flags.grace).await;
    // the writes that still run do so on the workers
    store.stop(left).await;
    drop(workers);
    Ok(())
}

/// Reads the keys again whenever the operator asks for it.
async fn reload(access: Access, mut hangup: Signal) {
    while hangup.recv().await.is_some() {
        if access.is_open() {
            tracing::info!("SIGHUP: there are no --credentials to read again");
            continue;
        }
        let reading = access.clone();
        match davkv::blocking(move || reading.reload()).await.flatten() {
            Ok(()) => tracing::info!("the keys were read again"),
            Err(error) => tracing::error!("the keys stay as they were: {error}"),
        }
    }
}
