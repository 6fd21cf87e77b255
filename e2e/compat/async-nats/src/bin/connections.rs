//! async-nats: ways in, and what happens when a server goes. One line `ok NAME` for each claim that holds.
//! Not a test harness: `test_async_nats.py` starts the servers and reads the lines.
//! Usage: `connections KEY=VALUE...`, as `lib/doors.py` has them.

use std::collections::HashMap;
use std::future::Future;
use std::process::Command;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use async_nats::{Client, ConnectOptions, Event};
use futures::StreamExt;

type Doors = HashMap<String, String>;
type Failure = Box<dyn std::error::Error + Send + Sync>;
type Claim = Result<(), Failure>;

const CLAIM_WITHIN: Duration = Duration::from_secs(30);
const TOKEN: &str = "s3cret";

async fn works(client: &Client) -> Claim {
    let mut messages = client.subscribe("door.>").await?;
    client.publish("door.a", "hi".into()).await?;
    let message = messages.next().await.ok_or("the subscription ended")?;
    if message.payload != "hi" {
        return Err(format!("{message:?}").into());
    }
    Ok(())
}

async fn refused(options: ConnectOptions, url: &str) -> Claim {
    match options.connect(url).await {
        Ok(_) => Err("it was let in".into()),
        Err(_) => Ok(()),
    }
}

async fn until(what: &str, condition: impl Fn() -> bool) -> Claim {
    for _ in 0..2_000 {
        if condition() {
            return Ok(());
        }
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
    Err(format!("not in time: {what}").into())
}

async fn user_and_password(doors: &Doors) -> Claim {
    works(&ConnectOptions::with_user_and_password("ann".into(), "apple".into()).connect(&doors["users"]).await?).await
}

async fn a_wrong_password_is_refused(doors: &Doors) -> Claim {
    refused(ConnectOptions::with_user_and_password("ann".into(), "pear".into()), &doors["users"]).await
}

async fn token(doors: &Doors) -> Claim {
    works(&ConnectOptions::with_token(TOKEN.into()).connect(&doors["token"]).await?).await
}

async fn nkey(doors: &Doors) -> Claim {
    works(&ConnectOptions::with_nkey(doors["nkey_seed"].clone()).connect(&doors["nkeys"]).await?).await
}

async fn credentials_file(doors: &Doors) -> Claim {
    works(&ConnectOptions::with_credentials_file(&doors["credentials"]).await?.connect(&doors["operator"]).await?).await
}

async fn tls(doors: &Doors) -> Claim {
    let options = ConnectOptions::with_token(TOKEN.into()).add_root_certificates(doors["ca"].clone().into());
    works(&options.connect(&doors["tls"]).await?).await
}

async fn tls_with_an_unknown_ca_is_refused(doors: &Doors) -> Claim {
    refused(ConnectOptions::with_token(TOKEN.into()).require_tls(true), &doors["tls"]).await
}

async fn tls_first(doors: &Doors) -> Claim {
    let options = ConnectOptions::with_token(TOKEN.into()).add_root_certificates(doors["ca"].clone().into()).tls_first();
    works(&options.connect(&doors["tls_first"]).await?).await
}

async fn websocket(doors: &Doors) -> Claim {
    works(&ConnectOptions::with_user_and_password("ann".into(), "apple".into()).connect(&doors["websocket"]).await?).await
}

/// One server is killed, the next one says good-bye: the client learns of others and moves on, its subscription with it.
async fn discovery_reconnect_and_lame_duck(doors: &Doors) -> Claim {
    let events = Arc::new(Mutex::new(Vec::new()));
    let noted = Arc::clone(&events);
    let client = ConnectOptions::new()
        .reconnect_delay_callback(|_| Duration::from_millis(100))
        .event_callback(move |event| {
            let noted = Arc::clone(&noted);
            async move { noted.lock().expect("no panic").push(event) }
        })
        .connect(&doors["trio"])
        .await?;
    let count = |wanted: fn(&Event) -> bool| events.lock().expect("no panic").iter().filter(|event| wanted(event)).count();
    let mut messages = client.subscribe("moved.>").await?;
    client.flush().await?;
    until("the others are known", || client.server_info().connect_urls.len() >= 3).await?;
    for (signal, word) in [("-KILL", "one"), ("-USR2", "two")] {
        let holder = client.server_info().server_name;
        let connected = count(|event| matches!(event, Event::Connected));
        Command::new("kill").args([signal, &doors[&format!("pid_{holder}")]]).status()?;
        until("it has moved", || {
            count(|event| matches!(event, Event::Connected)) > connected && client.server_info().server_name != holder
        })
        .await?;
        client.publish("moved.a", word.into()).await?;
        let message = messages.next().await.ok_or("the subscription ended")?;
        if message.payload != word {
            return Err(format!("{message:?}").into());
        }
    }
    if count(|event| matches!(event, Event::LameDuckMode)) == 0 {
        return Err("lame duck mode was not told".into());
    }
    Ok(())
}

async fn tell(name: &str, claim: impl Future<Output = Claim>) {
    match tokio::time::timeout(CLAIM_WITHIN, claim).await {
        Ok(Ok(())) => println!("ok {name}"),
        Ok(Err(error)) => println!("failed {name}: {error}"),
        Err(_) => println!("failed {name}: not within {CLAIM_WITHIN:?}"),
    }
}

#[tokio::main]
async fn main() {
    let doors: Doors =
        std::env::args().skip(1).filter_map(|pair| pair.split_once('=').map(|(key, value)| (key.into(), value.into()))).collect();
    macro_rules! claims {
        ($($name:ident)*) => { $(tell(stringify!($name), $name(&doors)).await;)* };
    }
    claims! {
        user_and_password a_wrong_password_is_refused token nkey credentials_file tls tls_with_an_unknown_ca_is_refused
        tls_first websocket discovery_reconnect_and_lame_duck
    }
}
