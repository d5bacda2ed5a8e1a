// Package netns tests weir on real packets: veth pairs between network namespaces, the built binary, and
// what arrives behind it.
package netns
