//! Numbers for the pools of a configuration that takes the place of another one.

use super::guards::{ForwardAuth, Guards};
use super::{Config, RouteSpec};
use crate::base::ids::{ByPool, PoolId};
use crate::state::route::Action;
use std::collections::HashMap;
use std::sync::Arc;

impl Config {
    /// Gives the pools that `running` has, too, their numbers there, and all others numbers from `next` on, which moves on.
    /// A number then means the same pool in every part of the process, however old what it is in.
    pub fn renumber(&mut self, running: &Config, next: &mut u32) {
        let mut number = |name: &str| {
            running.pool_named(name).unwrap_or_else(|| {
                *next += 1;
                PoolId(*next - 1)
            })
        };
        let mut numbers = vec![(PoolId::default(), PoolId::default())];
        for pool in &mut self.pools {
            let id = number(&pool.name);
            numbers.push((std::mem::replace(&mut pool.id, id), id));
        }
        let mut change = Change { numbers: numbers.into_iter().collect(), auths: HashMap::new() };
        change.guards(&mut self.guards);
        self.routes.iter_mut().for_each(|spec| change.route(spec));
    }
}

struct Change {
    numbers: ByPool<PoolId>,
    /// What routes have from the top level stays one value.
    auths: HashMap<*const ForwardAuth, Arc<ForwardAuth>>,
}

impl Change {
    fn pool(&self, pool: &mut PoolId) {
        *pool = self.numbers.get(*pool).copied().unwrap_or_default();
    }

    fn route(&mut self, spec: &mut RouteSpec) {
        match &mut spec.route.action {
            Action::Pool(pool) => self.pool(pool),
            Action::Split(split) => split.pools_mut().for_each(|pool| self.pool(pool)),
            Action::Redirect(_) | Action::Respond(_) => {}
        }
        spec.route.mirror.iter_mut().for_each(|mirror| self.pool(&mut mirror.pool));
        self.guards(&mut spec.guards);
    }

    fn guards(&mut self, guards: &mut Guards) {
        let Some(auth) = &mut guards.forward_auth else { return };
        let mut changed = ForwardAuth::clone(auth);
        self.pool(&mut changed.pool);
        // Values that are not replaced yet have addresses of their own, so none is taken for one that is gone.
        *auth = Arc::clone(self.auths.entry(Arc::as_ptr(auth)).or_insert_with(|| Arc::new(changed)));
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::state::config::parse;
    use std::path::Path;

    fn config(text: &str) -> Config {
        parse(text, Path::new("")).unwrap()
    }

    #[test]
    fn a_name_keeps_its_number_and_no_number_is_given_twice() {
        let before = config(r#"{"pools": {"a": {}, "b": {}, "c": {}}}"#);
        let mut after = config(
            r#"{"pools": {"c": {}, "d": {}, "a": {}}, "forward_auth": {"pool": "a"},
                "routes": [{"name": "x", "pool": "c", "mirror": {"pool": "d"}}, {"name": "y", "pool": "default"},
                           {"name": "z", "split": {"pools": {"a": 1, "d": 2}}, "forward_auth": {"pool": "c"}}]}"#,
        );
        let mut next = 4;
        after.renumber(&before, &mut next);
        let numbers: Vec<_> = after.pool_ids().map(|pool| (pool.0, after.pool_name(pool))).collect();
        assert_eq!(numbers, [(0, "default"), (3, "c"), (4, "d"), (1, "a")]);
        assert_eq!((next, after.pool_named("d")), (5, Some(PoolId(4))));
        let pools = |at: usize| after.routes[at].route.pools();
        assert_eq!((pools(0), pools(1)), (vec![PoolId(3), PoolId(4)], vec![PoolId(0)]));
        assert_eq!(pools(2), [PoolId(1), PoolId(4)]);
        let asked = |guards: &Guards| guards.forward_auth.as_ref().unwrap().pool;
        assert_eq!((asked(&after.guards), asked(&after.routes[2].guards)), (PoolId(1), PoolId(3)));
        let (top, inherits) = (&after.guards.forward_auth, &after.routes[0].guards.forward_auth);
        assert!(Arc::ptr_eq(top.as_ref().unwrap(), inherits.as_ref().unwrap()));
    }
}
