package connector

import (
	"slices"
	"strings"

	"github.com/kisgrid/kisgrid/pkg/batch"
	"github.com/kisgrid/kisgrid/pkg/definition"
)

// Guard keeps rows away from the keys that KisGrid itself keeps in a store: records of effects, dead letters, once-windows, and
// probe keys. A whole key, the connector's key prefix and the row's key together, is KisGrid's own if it begins with
// definition.OwnKeys or ends as ProbeKey does. Such keys are neither saved nor loaded, from whichever row they come.
//
// A connector passes its Saves and Loads through a Guard. The zero Guard is that of a connector without a key prefix.
type Guard struct {
	name, prefix string
	// accepted means that the prefix itself begins with OwnKeys, in a document that a cluster took in before such prefixes were
	// refused. Its rows may use all keys but those of KisGrid.
	accepted bool
}

// ownKeys are the beginnings of the keys that KisGrid keeps in stores.
var ownKeys = []string{definition.OwnKeys + "once:", definition.OwnKeys + "dead:", definition.OwnKeys + "window"}

// probes is the text with which each key of ProbeKey ends.
const probes = "}:" + definition.OwnKeys + "probe"

// ProbeKey returns the key, without the connector's prefix, that a connector may write and remove at once to see whether its
// store takes writes. No row reaches it. On a Redis Cluster the tag chooses the key's slot.
func ProbeKey(tag string) string { return "{" + tag + probes }

// NewGuard makes the guard for a connector's resolved document.
func NewGuard(c *definition.Connector) Guard {
	return Guard{name: c.Name, prefix: c.Key, accepted: c.Document.Revision > 0 && strings.HasPrefix(c.Key, definition.OwnKeys)}
}

// refuses reports whether a row's key, with the connector's prefix before it, is one of KisGrid's own. It allocates nothing.
func (g *Guard) refuses(key string) bool {
	if !g.begins(key, definition.OwnKeys) {
		return g.ends(key, probes)
	}
	if !g.accepted {
		return true
	}
	for _, own := range ownKeys {
		if g.begins(key, own) {
			return true
		}
	}
	return g.ends(key, probes)
}

// begins reports whether the whole key, which is the connector's prefix followed by key, begins with text.
func (g *Guard) begins(key, text string) bool {
	n := min(len(g.prefix), len(text))
	return g.prefix[:n] == text[:n] && strings.HasPrefix(key, text[n:])
}

// ends reports whether the whole key, which is the connector's prefix followed by key, ends with text.
func (g *Guard) ends(key, text string) bool {
	n := min(len(key), len(text))
	return key[len(key)-n:] == text[len(text)-n:] && strings.HasSuffix(g.prefix, text[:len(text)-n])
}

// refusal is the error for a row's key that is one of KisGrid's own. doing says what the row did with the key, such as "load".
func (g *Guard) refusal(code batch.Code, doing, key string) error {
	return batch.Errorf(code, "connector %s: %s %q: keys that begin with %s, or end with %s, are KisGrid's own; give the row another key, or the connector's document a key prefix",
		g.name, doing, g.prefix+key, definition.OwnKeys, probes)
}

// Save calls save with the effects whose keys are not KisGrid's own, and returns verdicts as Connection.Save does. The verdict
// on an effect whose key is KisGrid's own is an error with CodeSaveFailed.
func (g *Guard) Save(effects []Effect, save func([]Effect) ([]error, error)) ([]error, error) {
	own := func(e Effect) bool { return g.refuses(e.Key) }
	first := slices.IndexFunc(effects, own)
	if first < 0 {
		return save(effects)
	}
	verdicts, kept, places := make([]error, len(effects)), slices.Clone(effects[:first]), make([]int, first, len(effects))
	for i := range effects {
		switch {
		case i < first:
			places[i] = i
		case own(effects[i]):
			verdicts[i] = g.refusal(batch.CodeSaveFailed, "save to", effects[i].Key)
		default:
			kept, places = append(kept, effects[i]), append(places, i)
		}
	}
	if len(kept) == 0 {
		return verdicts, nil
	}
	rest, err := save(kept)
	if err != nil {
		return nil, err
	}
	for i, verdict := range rest {
		verdicts[places[i]] = verdict
	}
	return verdicts, nil
}

// Load calls load with the keys that are not KisGrid's own, and returns a Value for each key, in their order. For a key that is KisGrid's own
// the Value has an error with CodeConversionFailed.
func (g *Guard) Load(keys []string, load func([]string) ([]Value, error)) ([]Value, error) {
	if !slices.ContainsFunc(keys, g.refuses) {
		return load(keys)
	}
	values, kept, places := make([]Value, len(keys)), []string(nil), []int(nil)
	for i, key := range keys {
		if g.refuses(key) {
			values[i].Err = g.refusal(batch.CodeConversionFailed, "load", key)
		} else {
			kept, places = append(kept, key), append(places, i)
		}
	}
	if len(kept) == 0 {
		return values, nil
	}
	rest, err := load(kept)
	if err != nil {
		return nil, err
	}
	for i, value := range rest {
		values[places[i]] = value
	}
	return values, nil
}
