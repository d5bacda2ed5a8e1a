// Package fallback decides whether a store may be asked: a circuit breaker, the health loop that opens and closes it, and
// the alerts that tell people.
//
// A [Guard] stands before the store. While the breaker is closed calls go through, and are counted; enough failures in a
// row open it, and from then on nobody waits for a store that does not answer. Only the health loop still asks, ever more
// seldom. Once a probe is answered and the pause of the breaker is over, it is half-open: a few probes, then Recover, by
// which the node tells the store what happened meanwhile, all of them one after another and no call among them. Then it is
// closed, and keys come back to the store by and by.
//
// Time is that of package time, as the breaker's is: tests give it a clock by testing/synctest.
package fallback
