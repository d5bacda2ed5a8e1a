// Package nodes tests weir as people run it on several hosts: a daemon each, in network namespaces of their own, one
// Redis, real packets and real requests, and the faults that networks, Redis and hosts have.
package nodes
