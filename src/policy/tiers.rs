//! Which part of the requests of a pool each of its tiers gets: priorities, zones and backups.
//!
//! A tier is what a pool's servers of one priority in one zone (the balancer's own, or all others) are
//! together. In order:
//!
//! - *Priorities*, as Envoy's priority levels: while at least 1/1.4 of the weight of a priority is available it gets everything; with
//!   less it gets 1.4 times the available part, and the rest goes to the next priority. Where all priorities together have too little,
//!   they get everything in proportion.
//! - *Zones* within a priority: balancers are taken to be spread evenly over the zones. Where a third of three zones' available weight
//!   is in the own one, all requests stay there; with less, so much as is its part of what a third is, and the others get the rest in
//!   proportion. So the own zone is never given more than its capacity would bear if all balancers did the same.
//! - *Backups* get everything when no other server is available, and nothing before.

/// How much more than its part a server can take: a priority with this much less than all of its servers is
/// still enough. As Envoy's default overprovisioning factor.
const OVERPROVISIONING: f64 = 1.4;

/// One tier of a pool; a pool's tiers are in the order of [`Rank`].
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Tier {
    /// What it is.
    pub rank: Rank,
    /// The weights of its servers that can take requests.
    pub available: u64,
    /// The weights of all of its servers.
    pub total: u64,
}

/// The place of a tier.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
pub struct Rank {
    /// Only while no server that is none can take requests.
    pub is_backup: bool,
    /// 0 comes first.
    pub priority: u8,
    /// Where zones count: its servers are in another than the balancer's.
    pub is_elsewhere: bool,
}

impl Rank {
    /// Whether both have one priority.
    pub fn is_beside(self, other: Rank) -> bool {
        (self.is_backup, self.priority) == (other.is_backup, other.priority)
    }
}

/// The part of the requests that each tier gets, 0 to 1; all together are 1, or 0 where nothing is available.
/// `zones` is the number of zones that the servers of a priority are in.
pub fn shares(tiers: &[Tier], zones: impl Fn(Rank) -> usize) -> Vec<f64> {
    let main: Vec<(usize, &Tier)> =
        tiers.iter().enumerate().filter(|(_, tier)| !tier.rank.is_backup).collect();
    let of: Vec<_> = match main.iter().any(|(_, tier)| tier.available > 0) {
        true => main,
        false => tiers.iter().enumerate().filter(|(_, tier)| tier.rank.is_backup).collect(),
    };
    let mut shares = vec![0.0; tiers.len()];
    let levels: Vec<&[(usize, &Tier)]> = of.chunk_by(|one, next| one.1.rank.is_beside(next.1.rank)).collect();
    let health: Vec<f64> = levels.iter().map(|level| health(level)).collect();
    let whole = health.iter().sum::<f64>().min(1.0);
    let mut left = 1.0_f64;
    for (level, health) in levels.iter().zip(health) {
        let load = if whole > 0.0 { (health / whole).min(left) } else { 0.0 };
        left -= load;
        split(level, load, &zones, &mut shares);
    }
    shares
}

fn health(level: &[(usize, &Tier)]) -> f64 {
    let (available, total) = sums(level);
    if total == 0 { 0.0 } else { (OVERPROVISIONING * available as f64 / total as f64).min(1.0) }
}

/// What a priority gets, by zones.
fn split(level: &[(usize, &Tier)], load: f64, zones: &impl Fn(Rank) -> usize, shares: &mut [f64]) {
    let (available, _) = sums(level);
    for (at, tier) in level {
        let part = if available == 0 { 0.0 } else { tier.available as f64 / available as f64 };
        let own = level.iter().find(|(_, tier)| !tier.rank.is_elsewhere);
        let part = match own.filter(|_| level.len() > 1 && available > 0) {
            Some((_, own)) => {
                let stays = (own.available as f64 / available as f64 * zones(own.rank) as f64).min(1.0);
                if tier.rank.is_elsewhere { 1.0 - stays } else { stays }
            }
            None => part,
        };
        shares[*at] = load * part;
    }
}

fn sums(level: &[(usize, &Tier)]) -> (u64, u64) {
    let sum = |of: fn(&Tier) -> u64| level.iter().map(|(_, tier)| of(tier)).sum();
    (sum(|tier| tier.available), sum(|tier| tier.total))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::base::random::Random;

    fn tier(rank: (bool, u8, bool), available: u64, total: u64) -> Tier {
        let (is_backup, priority, is_elsewhere) = rank;
        Tier { rank: Rank { is_backup, priority, is_elsewhere }, available, total }
    }

    /// Available and total weights of priorities, and of backups behind them; the shares in percent.
    fn check(priorities: &[(u64, u64)], backups: (u64, u64), expected: &[u32]) {
        let mut tiers: Vec<_> =
            (0..).zip(priorities).map(|(at, one)| tier((false, at, false), one.0, one.1)).collect();
        tiers.push(tier((true, 0, false), backups.0, backups.1));
        let percent: Vec<u32> =
            shares(&tiers, |_| 1).iter().map(|share| (share * 100.0).round() as u32).collect();
        assert_eq!(percent, expected, "{priorities:?}");
    }

    #[test]
    fn a_priority_spills_over_when_it_has_too_few() {
        check(&[(4, 4), (4, 4)], (1, 1), &[100, 0, 0]);
        check(&[(3, 4), (4, 4)], (1, 1), &[100, 0, 0]);
        check(&[(2, 4), (4, 4)], (1, 1), &[70, 30, 0]);
        check(&[(1, 4), (4, 4)], (1, 1), &[35, 65, 0]);
        check(&[(0, 4), (4, 4)], (1, 1), &[0, 100, 0]);
        check(&[(1, 4), (1, 4), (4, 4)], (1, 1), &[35, 35, 30, 0]);
        // Together they have too little: everything in proportion.
        check(&[(1, 4), (1, 4)], (1, 1), &[50, 50, 0]);
        check(&[(1, 100), (0, 4)], (1, 1), &[100, 0, 0]);
        check(&[(0, 4), (0, 4)], (1, 1), &[0, 0, 100]);
        check(&[(0, 4)], (0, 1), &[0, 0]);
        check(&[], (2, 2), &[100]);
    }

    /// Available and total weights in the own zone and in others, of so many zones; the shares in percent.
    fn check_zones(own: (u64, u64), others: (u64, u64), zones: usize, expected: [u32; 2]) {
        let tiers = [tier((false, 0, false), own.0, own.1), tier((false, 0, true), others.0, others.1)];
        let percent: Vec<u32> =
            shares(&tiers, |_| zones).iter().map(|share| (share * 100.0).round() as u32).collect();
        assert_eq!(percent, expected, "{own:?} and {others:?} of {zones} zones");
    }

    #[test]
    fn requests_stay_in_the_own_zone_while_its_capacity_lasts() {
        check_zones((2, 2), (4, 4), 3, [100, 0]);
        check_zones((2, 2), (2, 2), 2, [100, 0]);
        check_zones((1, 2), (4, 4), 3, [60, 40]);
        check_zones((1, 1), (9, 9), 2, [20, 80]);
        check_zones((0, 2), (4, 4), 3, [0, 100]);
        check_zones((2, 2), (0, 4), 3, [100, 0]);
        check_zones((1, 2), (2, 4), 3, [100, 0]);
        check_zones((0, 2), (0, 4), 3, [0, 0]);
    }

    #[test]
    fn shares_are_a_whole_and_more_of_a_tier_never_gets_it_less() {
        let mut random = Random::seeded(7);
        for _ in 0..20_000 {
            let mut tiers = Vec::new();
            for rank in 0..4_u8 {
                let total = random.below(6) as u64;
                let rank = (rank == 3, rank / 2, rank == 1);
                tiers.push(tier(rank, random.below(total as usize + 1) as u64, total));
            }
            let zones = 2 + random.below(3);
            let before = shares(&tiers, |_| zones);
            let sum: f64 = before.iter().sum();
            let is_any = tiers.iter().any(|tier| tier.available > 0);
            assert!((sum - f64::from(u8::from(is_any))).abs() < 1e-9, "{tiers:?}: {before:?}");
            assert!(tiers.iter().zip(&before).all(|(tier, share)| tier.available > 0 || *share == 0.0));
            let at = random.below(tiers.len());
            if tiers[at].available < tiers[at].total {
                tiers[at].available += 1;
                let after = shares(&tiers, |_| zones);
                assert!(after[at] >= before[at] - 1e-9, "{tiers:?} at {at}: {before:?} {after:?}");
            }
        }
    }
}
