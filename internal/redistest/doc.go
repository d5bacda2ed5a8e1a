// Package redistest runs real redis-server processes for tests, scenarios and benchmarks: one, a cluster, or a master with
// a replica and sentinels. Each has a directory and a port or socket of its own, keeps nothing on disk, dies with the process
// that started it, and can be killed, frozen and started again where it was.
//
// [Launch] and its like are for programs, and give an error and something to Close. [Start] and its like are for tests.
package redistest
