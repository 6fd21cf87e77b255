//! Keeping folders of several servers in step, and asking others for an account. Not the folder.

use std::time::Duration;

use tokio::sync::mpsc;
use tracing::{debug, error};
use weir_auth::operator::is_account_key;
use weir_hub::{Hub, InternalHandler};

use super::{
    Accounts,
    fetch::{FETCH_TIMEOUT, Resolver},
    now,
    service::{Desk, take_over},
};
use crate::identity::short_hash;

const PACK: &str = "$SYS.REQ.CLAIMS.PACK";

/// How a full folder compares itself with others.
pub(super) struct Packs {
    /// Where their JWTs come in.
    pub(super) inbox: String,
    /// Between two comparisons.
    pub(super) interval: Duration,
}

/// A subject that only this server listens on.
pub(super) fn inbox(hub: &Hub) -> String {
    let mut random = [0; 8];
    // Without randomness the server's hash still tells servers apart.
    let _ = getrandom::fill(&mut random);
    let server = short_hash(&hub.options().server_id);
    format!("$SYS._INBOX.{server}.{:016x}", u64::from_be_bytes(random))
}

/// Asks one other server to send what it has, unless it has the same.
pub(super) async fn compare(desk: &Desk, packs: &Packs) {
    let Some(hash) = desk.with_directory(|directory| directory.hash()).await else { return };
    debug!("DirResolver - Checking store state: {}", hex(&hash));
    desk.system.publish(PACK.as_bytes(), Some(packs.inbox.as_bytes()), &[], &hash);
}

/// Sends all JWTs, one a message, unless the other has the same; an empty message ends them.
pub(super) async fn pack(desk: &Desk, reply: &[u8], theirs: Vec<u8>) {
    let Some((hash, keys)) = desk.with_directory(|directory| (directory.hash(), directory.keys())).await
    else {
        return;
    };
    if theirs == hash {
        desk.publish(reply, &[]);
        debug!("DirResolver - Pack request matches hash {}", hex(&hash));
        return;
    }
    for key in keys {
        let packed = desk.with_directory(move |directory| directory.packed(&key, now())).await;
        if let Some(Some(packed)) = packed {
            desk.publish(reply, packed.as_bytes());
        }
    }
    let (theirs, ours) = (hex(&theirs), hex(&hash));
    debug!("DirResolver - Pack request hash {theirs} - finished responding with hash {ours}");
    desk.publish(reply, &[]);
}

/// Takes over what another server sent.
pub(super) async fn merge(desk: &Desk, payload: &[u8]) {
    let Some(accounts) = desk.accounts.upgrade() else { return };
    if payload.is_empty() {
        debug!("DirResolver - Merging finished");
        return;
    }
    let text = String::from_utf8_lossy(payload).into_owned();
    for line in text.lines().filter(|line| !line.is_empty()) {
        let entry = line.split_once('|').filter(|(_, token)| !token.contains('|'));
        let Some((key, token)) = entry else {
            error!(
                "DirResolver - Merging resulted in error: line in package didn't contain 2 entries: {line:?}"
            );
            return;
        };
        if !is_account_key(key) {
            error!("DirResolver - Merging resulted in error: key to merge is not a valid public account key");
            return;
        }
        let (owned_key, owned_token) = (key.to_owned(), token.to_owned());
        let saved = desk
            .with_directory(move |directory| directory.save_if_newer(&owned_key, &owned_token, now()))
            .await;
        match saved {
            Some(Ok(true)) => take_over(&accounts, key, token.to_owned()).await,
            Some(Err(reason)) => error!("DirResolver - Merging resulted in error: {reason}"),
            _ => {}
        }
    }
}

/// Asks the other servers for an account's JWT and keeps it. An empty error: none of them has it.
pub(super) async fn ask_others(
    accounts: &Accounts,
    key: &str,
    resolver: &Resolver,
) -> Result<String, String> {
    let (Some(hub), Some(folder)) = (accounts.hub.upgrade(), resolver.folder()) else {
        return Err(String::new());
    };
    const ANSWERS_MAX: usize = 64;
    let (tell, mut told) = mpsc::channel(ANSWERS_MAX);
    let handler: InternalHandler = std::sync::Arc::new(move |message| {
        // More answers than that are not waited for.
        let _ = tell.try_send(message.payload.to_vec());
    });
    let system = hub.system_account();
    let inbox = inbox(&hub);
    let _listening = system.subscribe_internal(&inbox, None, handler);
    let subject = format!("$SYS.REQ.ACCOUNT.{key}.CLAIMS.LOOKUP");
    let asked = system.publish(subject.as_bytes(), Some(inbox.as_bytes()), &[], &[]);
    let answered = async {
        for _ in 0..asked {
            match told.recv().await {
                Some(answer) if !answer.is_empty() => return Some(answer),
                Some(_) => {}
                None => return None,
            }
        }
        None
    };
    let timeout = if folder.timeout.is_zero() { FETCH_TIMEOUT } else { folder.timeout };
    let answer = tokio::time::timeout(timeout, answered).await;
    let answer = answer.map_err(|_| "fetching jwt timed out".to_owned())?.ok_or_else(String::new)?;
    let token = String::from_utf8(answer).map_err(|error| error.to_string())?;
    let (directory, owned_key, owned_token) =
        (std::sync::Arc::clone(&folder.directory), key.to_owned(), token.clone());
    let saved =
        tokio::task::spawn_blocking(move || directory.lock().save_if_newer(&owned_key, &owned_token, now()));
    saved.await.map_err(|error| error.to_string())??;
    Ok(token)
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}
