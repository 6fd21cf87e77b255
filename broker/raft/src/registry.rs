//! The open groups of a node, by id, as the network finds them.

use std::collections::HashMap;

use openraft::Raft;
use parking_lot::RwLock;

use crate::group::Group;
use crate::raft_types::TypeConfig;
use crate::state_machine::StateMachine;
use crate::types::GroupId;

pub(crate) type RaftHandle = Raft<TypeConfig, StateMachine>;

/// Open groups, and those being opened.
#[derive(Default)]
pub(crate) struct Registry {
    slots: RwLock<HashMap<GroupId, Slot>>,
}

enum Slot {
    Opening,
    Open(Group),
}

impl Registry {
    /// Reserves an id; false when it is taken.
    pub(crate) fn reserve(&self, id: GroupId) -> bool {
        let mut slots = self.slots.write();
        if slots.contains_key(&id) {
            return false;
        }
        slots.insert(id, Slot::Opening);
        true
    }

    pub(crate) fn fill(&self, group: Group) {
        self.slots.write().insert(group.id(), Slot::Open(group));
    }

    pub(crate) fn remove(&self, id: GroupId) -> Option<Group> {
        match self.slots.write().remove(&id) {
            Some(Slot::Open(group)) => Some(group),
            Some(Slot::Opening) | None => None,
        }
    }

    pub(crate) fn group(&self, id: GroupId) -> Option<Group> {
        match self.slots.read().get(&id) {
            Some(Slot::Open(group)) => Some(group.clone()),
            Some(Slot::Opening) | None => None,
        }
    }

    pub(crate) fn raft(&self, id: GroupId) -> Option<RaftHandle> {
        self.group(id).map(|group| group.raft().clone())
    }

    pub(crate) fn all(&self) -> Vec<Group> {
        let slots = self.slots.read();
        let open = slots.values().filter_map(|slot| match slot {
            Slot::Open(group) => Some(group.clone()),
            Slot::Opening => None,
        });
        open.collect()
    }
}
