// Package ratesync keeps one limit over many nodes, through Redis.
//
// An [Executor] does operations on buckets that nodes share, [Op] by [Op]: [Redis] by Lua scripts, each of them atomic
// and by Redis' own clock, and a model of it in memory for tests and simulations. Over it stand the ways in which nodes
// share a count. strict asks for every decision. leased debits tokens before it uses them, in chunks, so that most
// decisions are made in this process. reconciled lets the kernel decide, tells the store what busy sources used, and
// charges them for what they used elsewhere.
//
// What decides is kept apart from what waits: the cores are given the time and the store's replies, start no goroutine,
// and are the same in the daemon and in the simulated cluster of internal/simulation.
package ratesync
