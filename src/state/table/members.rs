//! Names whose addresses are all servers (`"resolve": "all"`). The table keeps such a name as a server that gets no requests: what the
//! file and the operator say of it holds for its members.

use super::super::config::Config;
use super::super::server::{Admits, Mode, Role, Server};
use super::{Live, Snapshot, Table};
use crate::base::ids::ServerId;
use crate::policy::health::Health;
use crate::policy::pick::Weight;
use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::Ordering;

/// The servers that a look-up changed.
#[derive(Debug, Default)]
pub struct Membership {
    /// They were not there before.
    pub added: Vec<Arc<Server>>,
    /// They get no new requests.
    pub removed: Vec<Arc<Server>>,
}

impl Snapshot {
    /// What a configuration lists: servers on their own, and names in the place of their members.
    pub fn listed(&self) -> Vec<Arc<Server>> {
        let is_own = |server: &&Arc<Server>| *server.role() == Role::Single;
        self.names.iter().chain(self.servers.iter().filter(is_own)).cloned().collect()
    }

    /// The members of a name.
    pub fn members<'s>(&'s self, name: &'s Server) -> impl Iterator<Item = &'s Arc<Server>> + 's {
        self.servers.iter().filter(|server| server.is_member_of(name))
    }

    /// The name that a server is a member of.
    pub fn name_of(&self, server: &Server) -> Option<&Arc<Server>> {
        self.names.iter().find(|name| server.is_member_of(name))
    }
}

impl Table {
    /// The servers of a name are those at these addresses. Only the health thread may call this, and the start.
    pub fn set_members(&self, name: &Server, addresses: &[SocketAddr]) -> Membership {
        let snapshot = self.snapshot();
        let is_same = snapshot.members(name).count() == addresses.len()
            && snapshot
                .members(name)
                .all(|member| member.role().address().is_some_and(|at| addresses.contains(&at)));
        if is_same {
            return Membership::default();
        }
        let live = self.live();
        let changed = self.change(|servers| {
            let is_gone = |server: &Arc<Server>| {
                server.is_member_of(name) && server.role().address().is_none_or(|at| !addresses.contains(&at))
            };
            let (removed, mut stay): (Vec<_>, Vec<_>) =
                std::mem::take(servers).into_iter().partition(is_gone);
            let others = stay.iter().filter(|server| server.is_member_of(name)).count() + removed.len();
            // The first addresses of a name that was there at the start join nothing.
            let is_late = name.is_in_slow_start() || others > 0;
            let is_known = |at: &SocketAddr| {
                stay.iter().any(|server| server.is_member_of(name) && server.role().address() == Some(*at))
            };
            let new: Vec<_> = addresses.iter().filter(|at| !is_known(at)).copied().collect();
            let mut added = Vec::new();
            for at in new {
                let member = self.member(&live, name, at, is_late);
                // Somebody may have called a server so.
                if !stay.iter().any(|server| server.pool == member.pool && server.name == member.name) {
                    stay.push(Arc::clone(&member));
                    added.push(member);
                }
            }
            removed.iter().for_each(take_out);
            name.forget_members_beside(addresses);
            *servers = stay;
            Membership { added, removed }
        });
        self.members.fetch_add(1, Ordering::Release);
        changed
    }

    /// The operator says something of one member of a name alone, which may not have been found yet.
    pub fn adjust_member(&self, name: &Server, at: SocketAddr, mode: Option<Mode>, weight: Option<Weight>) {
        let snapshot = self.snapshot();
        match snapshot.members(name).find(|member| member.role().address() == Some(at)) {
            Some(member) => self.adjust(member, mode, weight),
            None => name.say_of_member(at, mode, weight),
        }
    }

    /// A server of a name, with what was said of the name.
    fn member(&self, live: &Live, name: &Server, at: SocketAddr, is_late: bool) -> Arc<Server> {
        let id = ServerId(self.next_id.fetch_add(1, Ordering::Relaxed));
        let probed = live.config.pool(name.pool).health_check.rules.enabled;
        let health = if probed { Health::Starting } else { Health::Up };
        let member = Server::member(id, name, live.config.pool_name(name.pool), at, health);
        member.follow(name, &live.config);
        let said = name.said_of_members().get(&at).copied().unwrap_or_default();
        member.set_mode(said.mode.unwrap_or(name.mode()));
        member.set_weight(said.weight.unwrap_or(name.weight()));
        member.set_tls(live.servers_tls(name.pool));
        if is_late {
            member.slow_start_is_due();
        }
        Arc::new(member)
    }

    /// The members after a reload: those of names that stay, and for a name that was one server before, the addresses that this one
    /// had. A name that is one server now begins with the addresses of its members.
    pub(super) fn members_after(
        &self,
        live: &Live,
        before: &Snapshot,
        listed: &[Arc<Server>],
        added: &[Arc<Server>],
    ) -> Vec<Arc<Server>> {
        let is_kept = |server: &&Arc<Server>| listed.iter().any(|name| server.is_member_of(name));
        let mut members: Vec<_> = before.servers.iter().filter(is_kept).cloned().collect();
        for server in added {
            let namesakes = before.servers.iter().filter(|one| {
                one.address == server.address && one.pool == server.pool && server.address.name().is_some()
            });
            let known: Vec<SocketAddr> = namesakes.flat_map(|one| one.addresses().all().to_vec()).collect();
            match server.role() {
                Role::Name => members.extend(known.into_iter().map(|at| self.member(live, server, at, true))),
                _ if known.is_empty() => {}
                _ => _ = server.addresses().replace(known),
            }
        }
        members
    }
}

/// What the file and the operator say of a name holds for its members as soon as it is said.
pub(super) fn follow_names(names: &[(Arc<Server>, Said)], members: &[Arc<Server>], config: &Config) {
    for (name, before) in names {
        let mode = Some(name.mode()).filter(|mode| *mode != before.0);
        name.say_of_all_members(mode, Some(name.weight()).filter(|weight| *weight != before.1));
        for member in members.iter().filter(|member| member.is_member_of(name)) {
            member.follow(name, config);
            if name.mode() != before.0 {
                member.set_mode(name.mode());
            }
            if name.weight() != before.1 {
                member.set_weight(name.weight());
            }
        }
    }
}

/// The mode and the weight of a name.
pub(super) type Said = (Mode, Weight);

/// It gets no new requests; those in flight keep their lease, and no connection to it is kept idle.
fn take_out(server: &Arc<Server>) {
    server.set_admits(Admits::Nothing);
    server.set_keeps_sessions(false, None);
    server.retire();
}

#[cfg(test)]
mod tests {
    use super::super::super::config::{self, Config};
    use super::super::super::live::Live;
    use super::super::super::server::Server;
    use super::super::Table;
    use super::*;
    use crate::base::ids::PoolId;
    use crate::base::time::Moment;
    use std::path::Path;

    const DEFAULT: PoolId = PoolId(0);

    fn config(list: &str) -> Config {
        let text = format!(
            r#"{{"servers": {{"slow_start": "30s", "health_check": {{"enabled": false}}, "list": [{list}]}}}}"#
        );
        config::parse(&text, Path::new("")).unwrap()
    }

    const WEB: &str = r#"{"name": "web", "address": "web.test:80", "resolve": "all", "max_in_flight": 3}"#;

    fn at(list: &[u8]) -> Vec<SocketAddr> {
        list.iter().map(|last| SocketAddr::from(([10, 0, 0, *last], 80))).collect()
    }

    fn table(list: &str) -> (Table, Arc<Server>) {
        let table = Table::of(Live::plain(config(list)));
        let name = table.find("web").unwrap();
        (table, name)
    }

    /// The servers that get requests, in the order of their names.
    fn ready(table: &Table) -> String {
        let snapshot = table.snapshot();
        let mut names: Vec<_> =
            snapshot.pool(DEFAULT).ready.iter().map(|server| server.name.as_str()).collect();
        names.sort_unstable();
        names.join(" ")
    }

    #[test]
    fn members_come_and_go_with_the_addresses() {
        let (table, web) = table(WEB);
        assert_eq!(ready(&table), "");
        table.set_members(&web, &at(&[1, 2]));
        assert_eq!(ready(&table), "web@10.0.0.1 web@10.0.0.2");
        let one = table.find("web@10.0.0.1").unwrap();
        assert_eq!((one.max_in_flight(), one.is_in_slow_start()), (Some(3), false));
        assert_eq!(one.addresses().all()[..], at(&[1])[..]);
        let lease = one.lease(Moment::START).unwrap();
        let changed = table.set_members(&web, &at(&[2, 3]));
        assert_eq!((changed.added.len(), changed.removed.len()), (1, 1));
        assert_eq!(ready(&table), "web@10.0.0.2 web@10.0.0.3");
        assert!(one.is_retired() && one.lease(Moment::START).is_err() && one.in_flight() == 1);
        drop(lease);
        assert!(table.find("web@10.0.0.3").unwrap().is_in_slow_start(), "it joins others");
        let (before, two) = (table.version(), table.find("web@10.0.0.2").unwrap());
        table.set_members(&web, &at(&[3, 2]));
        assert_eq!(table.version(), before, "in another order they are the same");
        assert!(Arc::ptr_eq(&two, &table.find("web@10.0.0.2").unwrap()));
    }

    #[test]
    fn what_is_said_of_a_name_holds_for_its_members_and_those_to_come() {
        let (table, web) = table(WEB);
        table.set_members(&web, &at(&[1, 2]));
        table.adjust(&web, Some(Mode::Drain), Some(Weight(7)));
        assert_eq!(ready(&table), "");
        table.set_members(&web, &at(&[1, 2, 3]));
        assert_eq!(ready(&table), "", "new ones are drained as well");
        table.adjust(&web, Some(Mode::Ready), None);
        assert_eq!(ready(&table), "web@10.0.0.1 web@10.0.0.2 web@10.0.0.3");
        assert!(table.snapshot().members(&web).all(|member| member.weight() == Weight(7)));
        let three = table.find("web@10.0.0.3").unwrap();
        table.adjust(&three, Some(Mode::Drain), None);
        assert_eq!(ready(&table), "web@10.0.0.1 web@10.0.0.2", "one of them alone");
        assert!(table.remove(DEFAULT, "web@10.0.0.1").is_empty(), "a member leaves with its address");
        assert_eq!(table.remove(DEFAULT, "web").len(), 4, "the name and its members");
        assert_eq!((ready(&table).as_str(), table.snapshot().names.len()), ("", 0));
    }

    #[test]
    fn a_reload_keeps_the_members_of_a_name_and_turns_a_server_into_one() {
        let (table, web) = table(WEB);
        table.set_members(&web, &at(&[1, 2]));
        let two = table.find("web@10.0.0.2").unwrap();
        table.adjust(&two, Some(Mode::Drain), None);
        table.reload(Live::plain(config(&format!(r#"{WEB}, {{"name": "b", "address": "10.0.0.9:80"}}"#))));
        assert_eq!(ready(&table), "b web@10.0.0.1", "what was said of one member stays");
        assert!(Arc::ptr_eq(&two, &table.find("web@10.0.0.2").unwrap()));
        table.reload(Live::plain(config(&WEB.replace('3', "5").replace("80\"", "80\", \"weight\": 4"))));
        assert_eq!((two.max_in_flight(), two.weight()), (Some(5), Weight(4)));
        table.reload(Live::plain(config(&WEB.replace("all", "first"))));
        assert_eq!(ready(&table), "web");
        let one = table.find("web").unwrap();
        assert_eq!(one.addresses().all()[..], at(&[1, 2])[..], "it begins with what is known");
        assert!(two.is_retired());
        table.reload(Live::plain(config(WEB)));
        assert_eq!(ready(&table), "web@10.0.0.1 web@10.0.0.2");
        assert!(one.is_retired());
    }
}
