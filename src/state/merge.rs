//! The servers after a reload, from three sides: the file as it was, the file as it is, and the table, in which the admin
//! API may have changed something since.
//!
//! What the file says differently than before happens. Where it says the same, what the API has made of it stays: a server that
//! was registered, drained, weighted or taken out. (A file in which such changes are kept over a restart is applied to the
//! table in the same way after it is made: see `app`.)

use super::config::{Config, ServerSpec, Servers};
use super::server::{Admits, Mode, Role, Server};
use super::table::Snapshot;
use crate::base::ids::PoolId;
use std::sync::Arc;

/// What became of the servers that are not the same any more.
#[derive(Debug, Default)]
pub struct Merged {
    /// They get no new requests.
    pub removed: Vec<Arc<Server>>,
    /// They were not there before.
    pub added: Vec<Arc<Server>>,
}

impl Merged {
    /// Members of names that are gone leave as other servers do, in the place of their names.
    pub(super) fn remove_members(
        &mut self,
        before: &Snapshot,
        listed: &[Arc<Server>],
        members: &[Arc<Server>],
    ) {
        let gone = self.removed.iter().filter(|server| *server.role() == Role::Name);
        let gone: Vec<_> = gone.flat_map(|name| before.members(name)).cloned().collect();
        for server in &gone {
            retire(server);
            if listed.iter().chain(members).any(|other| other.pool == server.pool) {
                server.set_admits(Admits::Nothing);
            }
        }
        self.removed.retain(|server| *server.role() != Role::Name);
        self.removed.extend(gone);
    }
}

fn retire(server: &Server) {
    server.retire();
    server.set_keeps_sessions(false, None);
}

/// The servers of the configuration `after`, those that stay first. `newcomer` makes a server of a pool.
pub fn merge(
    before: &Config,
    after: &Config,
    servers: &[Arc<Server>],
    newcomer: impl Fn(PoolId, &ServerSpec) -> Arc<Server>,
) -> (Vec<Arc<Server>>, Merged) {
    let (mut kept, mut merged) = (Vec::new(), Merged::default());
    let is_there = |pool: &PoolId| after.pool_ids().any(|known| known == *pool);
    let gone = servers.iter().filter(|server| !is_there(&server.pool));
    merged.removed.extend(gone.cloned());
    for pool in after.pool_ids() {
        let was = before.pool_ids().find(|known| *known == pool);
        let listed_before = was.map_or(&[][..], |pool| &before.pool(pool).list);
        let own: Vec<_> = servers.iter().filter(|server| server.pool == pool).collect();
        let lists = Lists { before: listed_before, after: &after.pool(pool).list };
        let stays: Vec<_> = own.iter().filter(|server| lists.keep(server)).copied().cloned().collect();
        let added = lists.missing(&own).map(|spec| newcomer(pool, spec)).collect::<Vec<_>>();
        for server in &stays {
            lists.adjust(server);
            lists.take_settings(server, after.pool(pool));
        }
        let is_empty = stays.is_empty() && added.is_empty();
        let leaves = own.iter().filter(|server| !stays.iter().any(|kept| Arc::ptr_eq(kept, server)));
        // With nothing in their place they still serve the requests that wait for the pool.
        leaves.clone().filter(|_| !is_empty).for_each(|server| server.set_admits(Admits::Nothing));
        merged.removed.extend(leaves.map(|server| Arc::clone(server)));
        kept.extend(stays);
        merged.added.extend(added);
    }
    merged.removed.iter().for_each(|server| retire(server));
    kept.extend(merged.added.iter().cloned());
    (kept, merged)
}

/// The servers of a pool in the file, before and after.
#[derive(Clone, Copy)]
struct Lists<'a> {
    before: &'a [ServerSpec],
    after: &'a [ServerSpec],
}

impl<'a> Lists<'a> {
    /// Whether a server of the table stays.
    fn keep(&self, server: &Server) -> bool {
        match self.after.iter().find(|spec| spec.name == server.name) {
            Some(spec) => server.is_of(spec) || self.is_as_before(spec),
            // One that the file had and has no more goes; one of the API stays, unless its address is another's now.
            None => {
                !self.before.iter().any(|spec| server.is_of(spec))
                    && !self
                        .after
                        .iter()
                        .any(|spec| spec.address == server.address && !self.is_as_before(spec))
            }
        }
    }

    /// What the file has and the table has not, unless the API has taken it out.
    fn missing(self, own: &[&Arc<Server>]) -> impl Iterator<Item = &'a ServerSpec> {
        self.after
            .iter()
            .filter(move |spec| !own.iter().any(|server| server.is_of(spec)) && !self.is_as_before(spec))
    }

    /// What the file says differently than before of a server that stays.
    fn adjust(&self, server: &Server) {
        let listed = self.after.iter().find(|spec| server.is_of(spec));
        let Some(spec) = listed.filter(|spec| !self.is_as_before(spec)) else { return };
        server.set_weight(spec.weight);
        server.set_place(spec.backup, spec.priority, spec.zone.as_deref());
        server.set_mode(Mode::Ready);
    }

    /// What the file says of a server, or of its pool for all, and the API cannot change.
    fn take_settings(&self, server: &Server, of_pool: &Servers) {
        let listed = self.after.iter().find(|spec| server.is_of(spec));
        let most = listed.map_or(server.own_max_in_flight(), |spec| spec.max_in_flight);
        server.set_max_in_flight(most, of_pool.limit_of_each());
        let slow_start = listed.map_or(server.own_slow_start(), |spec| spec.slow_start);
        server.set_slow_start(slow_start, of_pool.slow_start);
        server.set_agent_port(listed.map_or(server.own_agent_port(), |spec| spec.agent_port));
    }

    fn is_as_before(&self, spec: &ServerSpec) -> bool {
        self.before.contains(spec)
    }
}

#[cfg(test)]
mod tests {
    use super::super::config;
    use super::super::live::{Files, Live};
    use super::super::table::Table;
    use super::super::traffic::Registry;
    use super::*;
    use crate::base::time::Moment;
    use crate::policy::health::Health;
    use crate::policy::pick::Weight;
    use crate::state::sinks::Sinks;
    use std::path::Path;
    use std::time::Duration;

    fn config(list: &str) -> Config {
        let text = format!(r#"{{"servers": {{"list": [{list}]}}, "pools": {{"p": {{"list": []}}}}}}"#);
        config::parse(&text, Path::new("")).unwrap()
    }

    const A: &str = r#"{"name": "a", "address": "10.0.0.1:80"}"#;
    const B: &str = r#"{"name": "b", "address": "10.0.0.2:80"}"#;

    fn table(list: &str) -> Table {
        Table::of(Live::plain(config(list)))
    }

    fn reload(table: &Table, list: &str) -> Merged {
        let (before, registry) = (table.live(), Registry::default());
        let live = Live::new(
            Arc::new(config(list)),
            Files::default(),
            Vec::new(),
            Sinks::default(),
            &registry,
            Some(&before),
        );
        table.reload(live)
    }

    /// Name, port, weight and mode of each server of the default pool.
    fn shown(table: &Table) -> String {
        let servers = table.snapshot();
        let each = servers.servers.iter().map(|server| {
            format!("{} {} {} {}", server.name, server.address, server.weight().0, server.mode().name())
        });
        let mut each: Vec<_> = each.collect();
        each.sort();
        each.join(", ")
    }

    #[test]
    fn a_server_that_stays_is_the_same_one() {
        let table = table(&[A, B].join(","));
        let (a, b) = (table.find("a").unwrap(), table.find("b").unwrap());
        table.set_health(&a, Health::Up);
        table.set_health(&b, Health::Up);
        let merged = reload(&table, &[B, r#"{"name": "c", "address": "10.0.0.3:80"}"#].join(","));
        assert!(Arc::ptr_eq(&table.find("b").unwrap(), &b));
        assert_eq!(b.health(), Health::Up);
        assert_eq!(shown(&table), "b 10.0.0.2:80 1 ready, c 10.0.0.3:80 1 ready");
        assert!(Arc::ptr_eq(&merged.removed[0], &a) && !a.is_open());
        assert_eq!(merged.added[0].health(), Health::Starting);
    }

    #[test]
    fn another_address_is_another_server_and_another_weight_is_not() {
        let table = table(&[A, B].join(","));
        let (a, b) = (table.find("a").unwrap(), table.find("b").unwrap());
        reload(
            &table,
            r#"{"name": "a", "address": "10.0.0.9:80"},
               {"name": "b", "address": "10.0.0.2:80", "weight": 7, "backup": true, "max_in_flight": 3}"#,
        );
        assert!(!Arc::ptr_eq(&table.find("a").unwrap(), &a) && Arc::ptr_eq(&table.find("b").unwrap(), &b));
        assert_eq!((b.weight(), b.is_backup(), b.max_in_flight()), (Weight(7), true, Some(3)));
        reload(&table, &[A, B].join(","));
        assert_eq!((b.weight(), b.is_backup(), b.max_in_flight()), (Weight(1), false, None));
    }

    #[test]
    fn a_reload_sets_a_measured_limit_keeps_what_is_known_of_it_and_takes_it_away() {
        let table = table(A);
        let a = table.find("a").unwrap();
        let with = |limit: &str| {
            let text = format!(r#"{{"name": "a", "address": "10.0.0.1:80"{limit}}}"#);
            reload(&table, &text);
            (a.has_own_measure(), a.max_in_flight())
        };
        assert_eq!(with(r#", "max_in_flight": "auto""#), (true, None));
        // It takes one request at once.
        a.set_admits(Admits::Requests);
        let now = Moment::from_millis(1);
        let [first, second] = [(); 2].map(|()| a.lease(now).unwrap());
        first.responded(true, Duration::from_millis(1), now);
        (0..16).for_each(|_| second.rejected(now));
        drop((first, second));
        assert_eq!(with(""), (true, Some(1)), "that of its pool");
        assert_eq!(with(r#", "max_in_flight": 5"#), (false, Some(5)));
        assert_eq!(with(r#", "max_in_flight": "auto""#), (true, Some(1)));
    }

    #[test]
    fn what_the_api_changed_stays_until_the_file_says_something_else() {
        let table = table(&[A, B].join(","));
        let (a, b) = (table.find("a").unwrap(), table.find("b").unwrap());
        table.adjust(&a, Some(Mode::Drain), Some(Weight(9)));
        let spec = &config(r#"{"name": "x", "address": "10.0.0.7:80"}"#).servers.list[0];
        let x = table.add(PoolId(0), spec).unwrap();
        table.remove(PoolId(0), "b");
        reload(&table, &[A, B].join(","));
        assert_eq!(shown(&table), "a 10.0.0.1:80 9 drain, x 10.0.0.7:80 1 ready");
        assert!(Arc::ptr_eq(&table.find("x").unwrap(), &x) && !b.is_open());
        reload(
            &table,
            r#"{"name": "a", "address": "10.0.0.1:80", "weight": 2},
               {"name": "b", "address": "10.0.0.2:80", "weight": 3}, {"name": "y", "address": "10.0.0.7:80"}"#,
        );
        assert_eq!(shown(&table), "a 10.0.0.1:80 2 ready, b 10.0.0.2:80 3 ready, y 10.0.0.7:80 1 ready");
    }

    #[test]
    fn the_servers_of_a_pool_that_is_empty_or_gone_serve_what_waits_for_it() {
        let table = table(&[A, B].join(","));
        let a = table.find("a").unwrap();
        let merged = reload(&table, "");
        assert_eq!((merged.removed.len(), table.snapshot().pool(PoolId(0)).count), (2, 0));
        assert!(a.is_open() && a.is_retired());
    }
}
