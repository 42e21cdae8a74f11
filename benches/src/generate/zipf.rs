//! Zipf's distribution, as YCSB draws from it: a few records are asked for most of the time.
//!
//! The draw is Gray et al.'s ("Quickly generating billion-record synthetic databases", SIGMOD 1994), with the exponent 0.99; [`Scrambled`] spreads the
//! popular records over all of them by a hash, [`Latest`] makes the newest the most popular.

use crate::convert::whole;
use crate::generate::keys::fnv;
use crate::generate::random::Random;

const THETA: f64 = 0.99;

/// Ranks from 0, the most popular, of a number of records that may grow.
#[derive(Clone, Debug)]
struct Zipf {
    count: u64,
    /// The sum of 1 / rank^theta over all ranks from 1.
    zeta: f64,
    eta: f64,
}

impl Zipf {
    fn new(count: u64) -> Self {
        let mut zipf = Self { count: 0, zeta: 0.0, eta: 0.0 };
        zipf.grow(count.max(1));
        zipf
    }

    #[expect(clippy::cast_precision_loss, reason = "a probability needs no more than a float has")]
    fn grow(&mut self, count: u64) {
        if count <= self.count {
            return;
        }
        self.zeta += (self.count + 1..=count).map(|rank| (rank as f64).powf(-THETA)).sum::<f64>();
        self.count = count;
        let two = 1.0 + 2.0_f64.powf(-THETA);
        self.eta = (1.0 - (2.0 / count as f64).powf(1.0 - THETA)) / (1.0 - two / self.zeta);
    }

    #[expect(clippy::cast_precision_loss, reason = "as above")]
    fn rank(&self, random: &mut Random) -> u64 {
        let unit = random.unit();
        let place = unit * self.zeta;
        let rank = if place < 1.0 {
            0
        } else if place < 1.0 + 0.5_f64.powf(THETA) {
            1
        } else {
            whole(self.count as f64 * (self.eta * unit - self.eta + 1.0).powf(1.0 / (1.0 - THETA)))
        };
        rank.min(self.count - 1)
    }
}

/// Popular records anywhere.
#[derive(Clone, Debug)]
pub(crate) struct Scrambled(Zipf);

impl Scrambled {
    pub(crate) fn new(count: u64) -> Self {
        Self(Zipf::new(count))
    }

    /// A record's number.
    pub(crate) fn draw(&self, random: &mut Random) -> u64 {
        fnv(self.0.rank(random)) % self.0.count
    }
}

/// The newest records are the popular ones.
#[derive(Clone, Debug)]
pub(crate) struct Latest(Zipf);

impl Latest {
    pub(crate) fn new(count: u64) -> Self {
        Self(Zipf::new(count))
    }

    /// The number of one of `count` records, where that is not less than it was before.
    pub(crate) fn draw(&mut self, count: u64, random: &mut Random) -> u64 {
        self.0.grow(count);
        self.0.count - 1 - self.0.rank(random)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::convert::to_usize;

    #[test]
    fn ranks_are_drawn_as_often_as_zipf_says() {
        let (zipf, mut random) = (Zipf::new(1000), Random::new(1, 1));
        let mut drawn = vec![0_u32; 1000];
        for _ in 0..1_000_000 {
            drawn[to_usize(zipf.rank(&mut random))] += 1;
        }
        for rank in [0, 1, 9, 99] {
            let expected = 1e6 / (f64::from(rank + 1).powf(THETA) * zipf.zeta);
            let part = f64::from(drawn[rank as usize]) / expected;
            // The method is exact for the first two ranks, and for the others as a whole.
            let near = if rank < 2 { 0.97..1.03 } else { 0.75..1.25 };
            assert!(near.contains(&part), "rank {rank}: {part} of what is expected");
        }
        let tail: u32 = drawn[500..].iter().sum();
        let expected = (501..=1000).map(|rank| f64::from(rank).powf(-THETA)).sum::<f64>() / zipf.zeta * 1e6;
        assert!((0.9..1.1).contains(&(f64::from(tail) / expected)), "{tail} {expected}");
    }

    #[test]
    fn growing_is_as_good_as_beginning_large() {
        let mut grown = Zipf::new(10);
        grown.grow(500);
        let large = Zipf::new(500);
        assert!((grown.zeta - large.zeta).abs() < 1e-9 && (grown.eta - large.eta).abs() < 1e-9);
    }

    #[test]
    fn scrambled_draws_stay_within_the_records_and_have_favourites_apart_from_each_other() {
        let (zipf, mut random) = (Scrambled::new(1000), Random::new(1, 1));
        let mut drawn = vec![0_u32; 1000];
        for _ in 0..100_000 {
            drawn[to_usize(zipf.draw(&mut random))] += 1;
        }
        let mut order: Vec<usize> = (0..1000).collect();
        order.sort_by_key(|number| std::cmp::Reverse(drawn[*number]));
        assert!(drawn[order[0]] > 10_000, "one in eight or so is the favourite");
        assert!(order[0].abs_diff(order[1]) > 1);
    }

    #[test]
    fn the_latest_is_the_most_popular() {
        let (mut latest, mut random) = (Latest::new(100), Random::new(1, 1));
        let newest = (0..10_000).filter(|_| latest.draw(200, &mut random) == 199).count();
        assert!((1_200..2_500).contains(&newest), "{newest}");
        assert!((0..10_000).all(|_| latest.draw(201, &mut random) <= 200));
    }
}
