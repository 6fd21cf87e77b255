//! The connections between this server and one other: a pool, and one each for some accounts. Pure: `L` is a
//! connection. Not how they are made.

use std::collections::BTreeMap;
use weir_hub::CloseReason;

/// The largest pool another server may ask for; nats-server knows no bound, its default is 3.
const MAX_POOL_SIZE: usize = 1024;

/// nats-server's choice of a connection for an account.
pub(crate) fn pool_index(account: &str, pool_size: usize) -> usize {
    if pool_size <= 1 {
        return 0;
    }
    let hash = account
        .bytes()
        .fold(0x811C_9DC5_u32, |hash, byte| (hash ^ u32::from(byte)).wrapping_mul(0x0100_0193));
    hash as usize % pool_size
}

/// A connection that asks for its place.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Request<'a> {
    /// Whether this server began it.
    pub(crate) solicited: bool,
    /// The account it is for alone; empty for the pool.
    pub(crate) account: &'a str,
    /// What the other server's INFO says.
    pub(crate) remote_pool_size: i64,
    /// What the other server's INFO says.
    pub(crate) remote_index: i64,
    /// This server's setting; below 1 it takes no part in pooling.
    pub(crate) own_pool_size: i32,
    /// Whether a connection from the other side wins over one of ours in the same place.
    pub(crate) incoming_wins: bool,
}

/// Why a connection gets no place.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Refused {
    /// There is one already.
    Duplicate,
    /// Told to the other side.
    Error(String, CloseReason),
}

/// The place a connection got.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Placed<L> {
    /// In the pool.
    pub(crate) index: usize,
    /// The connection that had the place.
    pub(crate) replaced: Option<L>,
    /// Whether it is the only one of the pool.
    pub(crate) is_first: bool,
}

/// The connections to one other server.
#[derive(Debug)]
pub(crate) struct Places<L> {
    pool: Vec<Option<L>>,
    dedicated: BTreeMap<String, L>,
    no_pool: bool,
}

impl<L: Clone + PartialEq> Places<L> {
    pub(crate) fn new() -> Self {
        Self { pool: Vec::new(), dedicated: BTreeMap::new(), no_pool: false }
    }

    /// Gives a connection its place. `is_solicited` tells who began one that has its place already.
    pub(crate) fn place(
        &mut self,
        request: &Request<'_>,
        link: &L,
        is_solicited: impl Fn(&L) -> bool,
    ) -> Result<Placed<L>, Refused> {
        let no_pool = request.remote_pool_size <= 0 || request.own_pool_size < 1;
        let own_size = usize::try_from(request.own_pool_size.max(1)).unwrap_or(1);
        let size = own_size.max(usize::try_from(request.remote_pool_size).unwrap_or(0)).min(MAX_POOL_SIZE);
        check(request, no_pool, size)?;
        let keeps = |known: &L| is_solicited(known) && !request.incoming_wins;
        if !request.account.is_empty() {
            let known = self.dedicated.get(request.account);
            if known.is_some_and(|known| request.solicited || keeps(known)) {
                return Err(Refused::Duplicate);
            }
            let replaced = self.dedicated.insert(request.account.to_owned(), link.clone());
            return Ok(Placed { index: 0, replaced, is_first: false });
        }
        let is_first = self.pool.iter().all(Option::is_none);
        if is_first {
            self.no_pool = no_pool;
            self.pool.clear();
        }
        let size = if self.no_pool { 1 } else { size };
        if self.pool.len() < size {
            self.pool.resize(size, None);
        }
        let index = if self.no_pool || no_pool {
            0
        } else if request.solicited {
            self.pool.iter().position(Option::is_none).ok_or(Refused::Duplicate)?
        } else {
            usize::try_from(request.remote_index).unwrap_or(0)
        };
        let place = self.pool.get_mut(index).ok_or(Refused::Duplicate)?;
        if place.as_ref().is_some_and(|known| request.solicited || keeps(known)) {
            return Err(Refused::Duplicate);
        }
        Ok(Placed { index, replaced: place.replace(link.clone()), is_first })
    }

    /// Takes a connection out; tells whether any of the pool is left.
    pub(crate) fn remove(&mut self, link: &L) -> bool {
        for place in &mut self.pool {
            if place.as_ref() == Some(link) {
                *place = None;
            }
        }
        self.dedicated.retain(|_, known| known != link);
        self.pool.iter().any(Option::is_some)
    }

    /// Whether the other server, or this one, takes no part in pooling.
    pub(crate) fn no_pool(&self) -> bool {
        self.no_pool
    }

    /// Whether a place of the pool is free.
    pub(crate) fn has_free(&self) -> bool {
        self.pool.is_empty() || self.pool.iter().any(Option::is_none)
    }

    /// Whether the account has its own connection.
    pub(crate) fn has_dedicated(&self, account: &str) -> bool {
        self.dedicated.contains_key(account)
    }

    /// The connection on which this server tells an account's interest, and whether it is the account's own.
    pub(crate) fn for_interest(
        &self,
        account: &str,
        is_pinned: bool,
        own_pool_size: i32,
    ) -> Option<(&L, bool)> {
        if self.no_pool {
            return self.pool.first()?.as_ref().map(|link| (link, false));
        }
        if is_pinned {
            return self.dedicated.get(account).map(|link| (link, true));
        }
        let index = pool_index(account, usize::try_from(own_pool_size).unwrap_or(1));
        self.pool.get(index)?.as_ref().map(|link| (link, false))
    }

    /// Any connection of the pool, for what concerns the server as a whole.
    pub(crate) fn any(&self) -> Option<&L> {
        self.pool.iter().flatten().next().or_else(|| self.dedicated.values().next())
    }

    /// All of the pool.
    pub(crate) fn pooled(&self) -> impl Iterator<Item = &L> {
        self.pool.iter().flatten()
    }

    /// All that are for one account each.
    pub(crate) fn dedicated(&self) -> impl Iterator<Item = (&str, &L)> {
        self.dedicated.iter().map(|(account, link)| (account.as_str(), link))
    }
}

fn check(request: &Request<'_>, no_pool: bool, size: usize) -> Result<(), Refused> {
    let text = if no_pool {
        (!request.account.is_empty()).then(|| {
            let account = request.account;
            format!("Not possible to have a dedicated route for account \"{account}\" between those servers")
        })
    } else if request.solicited {
        let index = request.remote_index;
        (index != 0).then(|| format!("Route pool index should not be set but is set to {index}"))
    } else {
        let (index, theirs) = (request.remote_index, request.remote_pool_size);
        let is_valid = usize::try_from(index).is_ok_and(|index| index < size);
        (!is_valid).then(|| format!("Invalid route pool index: {index} - pool size is {theirs}"))
    };
    text.map_or(Ok(()), |text| Err(Refused::Error(text, CloseReason::ProtocolViolation)))
}

#[cfg(test)]
mod tests {
    use super::*;

    const POOLED: Request<'static> = Request {
        solicited: true,
        account: "",
        remote_pool_size: 3,
        remote_index: 0,
        own_pool_size: 3,
        incoming_wins: false,
    };

    /// Even numbers stand for connections that this server began.
    fn place(places: &mut Places<u32>, request: &Request<'_>, link: u32) -> Result<usize, Refused> {
        places.place(request, &link, |link| link % 2 == 0).map(|placed| placed.index)
    }

    #[test]
    fn accounts_are_spread_as_nats_server_does() {
        // FNV-1a, 32 bits.
        assert_eq!(pool_index("$G", 1), 0);
        assert_eq!(pool_index("", 3), 0x811C_9DC5_usize % 3);
        assert_eq!(pool_index("a", 1 << 16), 0xE40C_292C_usize % (1 << 16));
    }

    #[test]
    fn a_pool_fills_up_and_then_is_full() {
        let mut places = Places::new();
        for index in 0..3 {
            assert!(places.has_free());
            assert_eq!(place(&mut places, &POOLED, 2 * u32::try_from(index).expect("small")), Ok(index));
        }
        assert!(!places.has_free());
        assert_eq!(place(&mut places, &POOLED, 8), Err(Refused::Duplicate));
        assert!(places.remove(&2) && places.has_free());
        assert_eq!(place(&mut places, &POOLED, 8), Ok(1), "the free place");
    }

    #[test]
    fn pools_of_different_sizes_take_the_larger() {
        let mut places = Places::new();
        let request = Request { remote_pool_size: 5, ..POOLED };
        for link in [0, 2, 4, 6, 8] {
            place(&mut places, &request, link).expect("a place");
        }
        assert!(!places.has_free());
        // Each side tells its interest where its own size puts the account.
        let (link, dedicated) = places.for_interest("a", false, 3).expect("a link");
        assert_eq!((*link, dedicated), (2 * u32::try_from(pool_index("a", 3)).expect("small"), false));
    }

    #[test]
    fn servers_without_pools_share_one_connection_for_everything() {
        for request in [Request { remote_pool_size: 0, ..POOLED }, Request { own_pool_size: -1, ..POOLED }] {
            let mut places = Places::new();
            assert_eq!(place(&mut places, &request, 2), Ok(0));
            assert!(places.no_pool() && !places.has_free());
            assert_eq!(place(&mut places, &request, 4), Err(Refused::Duplicate));
            assert_eq!(places.for_interest("a", true, 3), Some((&2, false)), "also for pinned accounts");
            let text = "Not possible to have a dedicated route for account \"A\" between those servers";
            assert_eq!(
                place(&mut places, &Request { account: "A", ..request }, 6),
                Err(Refused::Error(text.to_owned(), CloseReason::ProtocolViolation))
            );
        }
    }

    #[test]
    fn of_two_connections_for_one_place_both_sides_keep_the_same() {
        let mut places = Places::new();
        place(&mut places, &POOLED, 2).expect("a place");
        let incoming = Request { solicited: false, ..POOLED };
        assert_eq!(place(&mut places, &incoming, 3), Err(Refused::Duplicate), "ours stays");
        let wins = Request { incoming_wins: true, ..incoming };
        let placed = places.place(&wins, &3, |link| link % 2 == 0).expect("a place");
        assert_eq!(placed, Placed { index: 0, replaced: Some(2), is_first: false });
        // The other side dials again only when its own is gone.
        assert_eq!(place(&mut places, &incoming, 5), Ok(0));
    }

    #[test]
    fn wrong_indexes_are_refused_in_the_words_of_nats_server() {
        let mut places = Places::new();
        let text = |request: Request<'_>, places: &mut Places<u32>| match place(places, &request, 1) {
            Err(Refused::Error(text, _)) => text,
            other => panic!("{other:?}"),
        };
        assert_eq!(
            text(Request { solicited: false, remote_index: 3, ..POOLED }, &mut places),
            "Invalid route pool index: 3 - pool size is 3"
        );
        assert_eq!(
            text(Request { remote_index: 1, ..POOLED }, &mut places),
            "Route pool index should not be set but is set to 1"
        );
    }

    #[test]
    fn a_pinned_account_uses_only_its_own_connection() {
        let mut places = Places::new();
        place(&mut places, &POOLED, 2).expect("a place");
        assert_eq!(places.for_interest("A", true, 3), None);
        place(&mut places, &Request { account: "A", ..POOLED }, 4).expect("a place");
        assert_eq!(places.for_interest("A", true, 3), Some((&4, true)));
        assert!(places.has_dedicated("A") && places.remove(&4) && !places.has_dedicated("A"));
    }
}
