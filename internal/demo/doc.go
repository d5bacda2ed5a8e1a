// Package demo is the scenario of weir demo. It builds a private network, lets a well-behaved host, two flooding ones, a botnet,
// a host that forges its sources and one that is banned send to the same gateway, first without weir and then with it, and
// judges from what the gateway's application received whether weir did what it promises.
//
// It prints nothing: [Run] reports to an observer while it runs, and returns a [Result].
//
// What it builds is one process' own: network namespaces that only this process holds, and a state directory of its own
// beside weir's. The first vanish with the process in whatever way it ends; the second [Run] removes, and if it was killed,
// the next [Run] does.
package demo
