package flowexec

// tell lets the groups go on that wait for the call's answer. It is called once, when the call has ended.
func (a *ask) tell() {
	a.mu.Lock()
	groups := a.groups
	a.groups, a.told = nil, true
	a.mu.Unlock()
	for g := range groups {
		g.happened()
	}
}

// add has a parked group told when the call has ended, at once if it has ended already.
func (a *ask) add(g *group) {
	a.mu.Lock()
	told := a.told
	if !told {
		if a.groups == nil {
			a.groups = make(map[*group]struct{})
		}
		a.groups[g] = struct{}{}
	}
	a.mu.Unlock()
	if told {
		g.happened()
	}
}

// remove has a group told nothing any more. It may have been told already.
func (a *ask) remove(g *group) {
	a.mu.Lock()
	defer a.mu.Unlock()
	delete(a.groups, g)
}
