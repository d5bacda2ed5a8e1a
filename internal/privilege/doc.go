// Package privilege says which capabilities the daemon needs and why, and gives up the others.
//
// The list is data: see [Needs]. Start-up takes more than what follows, so the daemon calls [Reduce]
// between the two, before it reads anything from the network. What it keeps lets it load programs,
// swap and attach them, and read and write its own pins; no more.
//
// As user 0 without CAP_DAC_OVERRIDE the daemon reads and writes the files that root owns, its pins
// among them, and those of others only as far as their modes let everyone.
package privilege
