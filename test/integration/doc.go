// Package integration tests weir behind the proxies that people run: the ones that are installed, started for real, with the
// very files of docs/integrations.
//
// The files are used as they are, addresses included: the tests run in a network namespace of their own, in which nobody else
// has port 80. Nothing of a proxy outlives them: they have a namespace of processes as well.
package integration
