// Package fallback decides whether a store may be asked: a circuit breaker, the health loop that opens and closes it, and
// the alerts that tell people.
package fallback
