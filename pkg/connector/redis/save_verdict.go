package redis

import (
	"slices"

	"github.com/kisgrid/kisgrid/pkg/batch"
)

// everyPlace returns the numbers of all effects of a part, from 0.
func everyPlace(p *scriptPart) []int {
	places := make([]int, len(p.keys))
	for i := range places {
		places[i] = i
	}
	return places
}

// split takes the effects at some places, which are in order, out of a part. It makes one new part for each key among them; the
// new parts are sent alone. The effects that are left in the old part count as answered.
func (t *saveTrip) split(p *scriptPart, places []int) (alone []*scriptPart) {
	pointAlone.Hit()
	byKey := make(map[string][]int)
	var keys []string
	for _, place := range places {
		key := *p.keys[place].(*string)
		if _, known := byKey[key]; !known {
			keys = append(keys, key)
		}
		byKey[key] = append(byKey[key], place)
	}
	for _, key := range keys {
		part := p.take(byKey[key])
		part.alone, part.err = true, p.err
		alone = append(alone, part)
	}
	rest := slices.DeleteFunc(everyPlace(p), func(place int) bool {
		_, taken := slices.BinarySearch(places, place)
		return taken
	})
	*p = *p.take(rest)
	p.answered = true
	p.req.parts = append(p.req.parts, alone...)
	return alone
}

// refuse sets the verdict on the effect at a place of the part, which failed by its own fault with the error why.
func (p *scriptPart) refuse(c *Connection, place int, why error) {
	i := p.effects[place]
	p.req.refuse(i, c.refused(batch.CodeSaveFailed, operationNames[p.letters[place]|capital], p.req.keys[i], why))
}

// operationNames maps the letter of an operation to the Redis command that carries it out.
var operationNames = map[byte]string{
	letterSet: "HSET", letterAdd: "HINCRBY", letterAddDecimal: "HINCRBYFLOAT", letterAppend: "RPUSH", letterDelete: "DEL",
}

// refuse ends a part that was sent alone, and makes the part's error the verdict on its effects. If the error is only that of the
// first effect, the script did not try the other effects: then these become another part.
func (t *saveTrip) refuse(p *scriptPart) {
	pointRowFault.Hit()
	if p.first && len(p.keys) > 1 {
		p.refuse(t.conn, 0, p.err)
		rest := p.take(everyPlace(p)[1:])
		rest.alone = true
		p.req.parts = append(p.req.parts, rest)
	} else {
		for place := range p.keys {
			p.refuse(t.conn, place, p.err)
		}
	}
	p.err, p.answered = nil, true
}

// judge decides why parts that were sent alone did not take place, and prepares the next attempt. A part whose control took place
// failed by its own fault, and is refused. If a part failed by the fault of Redis, judge returns the first of these, else nil.
func (t *saveTrip) judge() (failed *scriptPart) {
	for _, req := range t.reqs {
		if req.abandoned() {
			continue
		}
		for _, s := range req.parts {
			if s.answered {
				continue
			}
			if s.alone {
				t.addControls(s)
			}
			switch f := faultOf(s.err); {
			case f == noFault, f != storeFault && (!s.tried || t.noScript):
			case f == rowFault, f != storeFault && t.tookPlace(s):
				t.refuse(s)
			case failed == nil:
				pointStoreFault.Hit()
				failed = s
			}
		}
	}
	return failed
}

// addControls makes controls for a part that is about to be sent alone. A control does one of the part's operations on a key of
// KisGrid's own, in the part's slot of the Redis Cluster, and removes that key at once: if the control takes place and the part
// does not, the fault is the part's, not Redis's. An operation that has a control, or that Redis has carried out in this trip,
// gets none.
func (t *saveTrip) addControls(p *scriptPart) {
	for _, letter := range p.letters {
		letter |= capital
		if t.controls[letter] != nil || t.works(letter) {
			continue
		}
		if t.controls == nil {
			t.controls = make(map[byte]*scriptPart)
		}
		t.controls[letter] = t.conn.probe(p.slot, letter).parts[0]
	}
}

// tookPlace reports whether Redis carried out each operation that a part asked for, in this trip: in a control (addControls) or in
// another part. If only the first effect of the part was tried, only its operation counts.
func (t *saveTrip) tookPlace(p *scriptPart) bool {
	letters := p.letters
	if p.first {
		letters = letters[:1]
	}
	for _, letter := range letters {
		if !t.works(letter | capital) {
			return false
		}
	}
	return true
}

// works reports whether Redis carried out the operation with this letter in this trip, for a control or a caller.
func (t *saveTrip) works(letter byte) bool {
	control := t.controls[letter]
	return control != nil && control.answered || t.carriedOut(-1, letter)
}

// carriedOut reports whether Redis carried out the operation with this letter in a slot for one of the trip's callers. Slot -1
// means any slot.
func (t *saveTrip) carriedOut(slot int, letter byte) bool {
	for _, reqs := range [][]*request{t.over, t.reqs} {
		for _, req := range reqs {
			for _, s := range req.parts {
				if !s.answered || s.givenUp || slot >= 0 && s.slot != slot {
					continue
				}
				for place, l := range s.letters {
					if l|capital == letter && (req.verdicts == nil || req.verdicts[s.effects[place]] == nil) {
						return true
					}
				}
			}
		}
	}
	return false
}
