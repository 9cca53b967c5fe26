package redis

import "github.com/kisgrid/kisgrid/pkg/connector"

// probe makes a Save that leaves nothing behind, to see whether Redis carries out the operation with this letter: it does the
// operation on a key of KisGrid's own in a slot, and removes that key.
func (c *Connection) probe(slot int, letter byte) *request {
	key := c.probeKey(slot)
	effects := []connector.Effect{{Key: key, Field: "probe", Value: "1"}, {Op: connector.Delete, Key: key}}
	switch letter {
	case letterAdd:
		effects[0].Op = connector.Incr
	case letterAddDecimal:
		effects[0].Op, effects[0].Value = connector.Incr, "0.5"
	case letterAppend:
		effects[0].Op = connector.Append
	case letterDelete:
		effects = effects[1:]
	default:
		effects[0].Op = connector.Set
	}
	req, err := c.encode(&connector.Cause{}, effects)
	if err != nil {
		panic(err) // encode refuses unknown operations only
	}
	for _, s := range req.parts {
		s.alone = true
	}
	return req
}

// probeKey returns the key of probes in a slot, without the connector's prefix. The Guard keeps rows from using it.
func (c *Connection) probeKey(slot int) string {
	tag := ""
	if c.cluster != nil {
		tag = slotTags()[slot]
	}
	return connector.ProbeKey(tag)
}
