package flowexec

// waitSources are the sources of news that parked rows and resting runs wait for, shared by all lanes of a flow. There are four: a time
// (clock), the Save of a key (keys), any Save through a connector (saves), and the answer of a call to a connector, which is an ask in
// parcel.asks.
type waitSources struct {
	clock *clock
	keys  *keyWatches
	saves *Saves
}

// newWaitSources makes the sources for the lanes of one flow.
func newWaitSources(c *clock, config LanesConfig) *waitSources {
	return &waitSources{c, newKeyWatches(config), config.Saves}
}

// forget takes groups out of the sources that they wait for, apart from the clock, so that they are not told any more. For groups that
// were told already or never added it does nothing. The caller does not hold lane.mu.
func (s *waitSources) forget(groups []*group) {
	for _, g := range groups {
		if _, ok := g.parcel.saveWaits[g]; ok {
			s.saves.remove(g.connector().Name, g)
		}
		if a := g.parcel.asks[g]; a != nil {
			a.remove(g)
		}
		if g.wantedKey == "" {
			continue
		}
		if w := s.keys.of(g.connector()); w != nil {
			w.remove(g.wantedKey, g, nil)
		}
	}
}
