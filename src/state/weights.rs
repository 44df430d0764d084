//! The weights that count, where agents want parts of what is configured.

use super::server::Server;
use crate::base::ids::PoolId;
use crate::policy::pick::Weight;
use std::collections::HashMap;
use std::sync::Arc;

/// Sets the weight of each server that counts in its pool. Where no agent wants another part than the whole, that is the
/// configured weight. Else weights are multiplied by percents, so that three quarters of the weight 1 are three quarters, and
/// scaled down in common where they would not fit.
pub(super) fn weigh(servers: &[Arc<Server>]) {
    // By pool: the largest product, and whether any agent wants another part.
    let mut pools: HashMap<PoolId, (u32, bool)> = HashMap::new();
    for server in servers {
        let percent = server.agent_percent();
        let (largest, is_advised) = pools.entry(server.pool).or_default();
        *largest = (*largest).max(product(server, percent));
        *is_advised |= percent != 100;
    }
    for server in servers {
        let weight = match pools.get(&server.pool) {
            Some((largest, true)) => {
                let divisor = largest.div_ceil(u32::from(u16::MAX)).max(1);
                let product = product(server, server.agent_percent());
                // What is not nothing gets something.
                Weight((product / divisor).max(u32::from(product > 0)) as u16)
            }
            _ => server.weight(),
        };
        server.set_weight_now(weight);
    }
}

fn product(server: &Server, percent: u16) -> u32 {
    u32::from(server.weight().0) * u32::from(percent)
}

#[cfg(test)]
mod tests {
    use super::super::config::ServerSpec;
    use super::super::server::AgentWord;
    use super::super::table::Table;
    use crate::policy::agent::Advice;
    use crate::policy::pick::{Algorithm, Weight};

    /// Servers with these weights, of which agents want these percents; the weights that count.
    #[track_caller]
    fn check(servers: &[(u16, u16)], expected: &[u16]) {
        let spec = |(at, (weight, _)): (usize, &(u16, u16))| ServerSpec {
            weight: Weight(*weight),
            ..ServerSpec::new(format!("s{at}"), format!("127.0.0.1:{}", at + 1).parse().unwrap())
        };
        let list: Vec<_> = servers.iter().enumerate().map(spec).collect();
        let table = Table::new(Algorithm::RoundRobin, false, None, &list);
        for (at, (_, percent)) in servers.iter().enumerate() {
            let advice = Advice { weight_percent: *percent, ..Advice::default() };
            let word = AgentWord { advice, ..AgentWord::default() };
            table.advise(vec![(&*table.find(&format!("s{at}")).unwrap(), Some(word))]);
        }
        let weights: Vec<u16> = table.snapshot().servers.iter().map(|server| server.weight_now().0).collect();
        assert_eq!(weights, expected, "{servers:?}");
    }

    #[test]
    fn parts_of_weights_are_exact_and_the_whole_is_as_configured() {
        check(&[(1, 100), (5, 100)], &[1, 5]);
        check(&[(1, 100), (1, 75)], &[100, 75]);
        check(&[(2, 50), (1, 100)], &[100, 100]);
        check(&[(7, 0), (1, 100)], &[0, 100]);
        check(&[(0, 300), (1, 100)], &[0, 100]);
        check(&[(1000, 1000), (1, 1)], &[62_500, 1]);
    }
}
