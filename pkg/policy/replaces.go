package policy

import "fmt"

// checkReplaces judges what the policies replace; first is the index of the
// first policy of each name.
func checkReplaces(fs *faults, policies []Policy, first map[string]int) {
	for i, p := range policies {
		named := map[string]bool{}
		for j, name := range p.Replaces {
			path := fmt.Sprintf("policies[%d].replaces[%d]", i, j)
			k, known := first[name]
			switch {
			case name == p.Name:
				fs.add(path, "a policy cannot replace itself", "remove the entry")
			case !known:
				fs.add(path, fmt.Sprintf("there is no policy %s", Quote(name)), "name a policy of this file or remove the entry")
			case named[name]:
				fs.add(path, fmt.Sprintf("%s is named before", Quote(name)), "remove the entry")
			case p.Mode != ModeOff && policies[k].Mode != ModeOff && p.Layer != policies[k].Layer:
				fs.add(path, fmt.Sprintf("%s is of layer %s and this policy of layer %s", Quote(name), policies[k].Layer, p.Layer),
					"remove the entry", fmt.Sprintf("policies[%d].layer", i), fmt.Sprintf("policies[%d].layer", k))
			}
			named[name] = true
		}
	}
	checkCircles(fs, policies, first)
}

// checkCircles refuses policies that replace one another: where all of them
// match, all would be replaced and none in force.
func checkCircles(fs *faults, policies []Policy, first map[string]int) {
	const (
		unseen = iota
		open   // on the way that led here
		done
	)
	state := make([]int, len(policies))
	var visit func(i int)
	visit = func(i int) {
		state[i] = open
		for j, name := range policies[i].Replaces {
			k, known := first[name]
			switch {
			case !known || k == i || policies[k].Mode == ModeOff:
			case state[k] == unseen:
				visit(k)
			case state[k] == open:
				fs.add(fmt.Sprintf("policies[%d].replaces[%d]", i, j),
					fmt.Sprintf("%s replaces %s in turn, so that neither would be in force", Quote(name), Quote(policies[i].Name)),
					"remove the entry of the broader one")
			}
		}
		state[i] = done
	}
	for i, p := range policies {
		if state[i] == unseen && p.Mode != ModeOff {
			visit(i)
		}
	}
}
