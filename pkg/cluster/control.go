package cluster

import (
	"bytes"
	"context"
	"encoding/json"
	"strings"
	"time"

	"go.etcd.io/etcd/api/v3/mvccpb"

	"github.com/kisgrid/kisgrid/pkg/batch"
)

// Controlled is the kind of thing that a Control is about.
type Controlled string

// The kinds of things that can have a Control.
const (
	ControlledFlow   Controlled = "flow"   // the flow is paused: it takes no new batches
	ControlledWorker Controlled = "worker" // the worker of this name is cordoned: it gets no new rows
)

// Control says who has paused a flow or cordoned a worker, when and why. It stays in etcd until somebody removes it: applies, restarts and
// deletions change nothing about it. A key without readable JSON counts, too, with its text as the reason, so that a plain etcdctl put
// does what it seems to do.
type Control struct {
	Reason string    `json:"reason,omitempty"`
	By     string    `json:"by,omitempty"` // who did it, as far as the coordinator that wrote the key knows
	At     time.Time `json:"at,omitzero"`
}

// Controls is all that is controlled, by name. A nil map is empty.
type Controls struct {
	Paused   map[string]Control // flows
	Cordoned map[string]Control // workers, by the name that stays the same when a worker starts again
}

// controlRecord is the record of one key below control/.
type controlRecord struct {
	kind    Controlled
	name    string
	control Control
}

// readControl decodes a key below control/. It fails only for a key that is not control/<kind>/<name>.
func (s *Store) readControl(kv *mvccpb.KeyValue) (r controlRecord, err error) {
	kind, name, _ := strings.Cut(strings.TrimPrefix(string(kv.Key), s.keys.controls().from), "/")
	r = controlRecord{kind: Controlled(kind), name: name}
	if r.kind != ControlledFlow && r.kind != ControlledWorker {
		return r, batch.Errorf(batch.CodeInternal, "the key is not control/flow/<name> or control/worker/<name>")
	}
	if err := checkName(name); err != nil {
		return r, err
	}
	if json.Unmarshal(kv.Value, &r.control) != nil {
		r.control = Control{Reason: string(bytes.ToValidUTF8(kv.Value, []byte("?")))}
	}
	return r, nil
}

// FollowControls calls f with all that is controlled: when it has read the keys, and after each change. Calls of f never overlap. While f
// runs, changes are collected, and f is then called once with the newest state. f may keep the maps. FollowControls blocks, also while etcd
// is out of reach, until the context ends or the Store is closed, and returns why.
func (s *Store) FollowControls(ctx context.Context, f func(Controls)) error {
	return follow(ctx, s, s.keys.controls(), s.readControl, func(_ int64, records []controlRecord) {
		all := Controls{Paused: map[string]Control{}, Cordoned: map[string]Control{}}
		for _, r := range records {
			if r.kind == ControlledFlow {
				all.Paused[r.name] = r.control
			} else {
				all.Cordoned[r.name] = r.control
			}
		}
		f(all)
	})
}

// SetControl pauses a flow or cordons a worker, as kind says: it writes c for the name. If c is nil, it removes what is there. changed is
// false if that was the case already; then nothing is written, so the first reason and time stay.
func (s *Store) SetControl(ctx context.Context, kind Controlled, name string, c *Control) (changed bool, err error) {
	if err := checkName(name); err != nil {
		return false, batch.Errorf(batch.CodeInternal, "control %s %q: %w", kind, name, err)
	}
	key := s.keys.control(kind, name)
	t := s.transaction("writing control/" + string(kind) + "/" + name)
	if c == nil {
		t.delete(key)
	} else {
		value, err := encode(*c)
		if err != nil {
			return false, err
		}
		t.requireCreated(key, 0)
		t.put(key, value)
	}
	answer, err := t.commit(ctx)
	if err != nil {
		return false, err
	}
	if c == nil {
		return answer.Responses[0].GetResponseDeleteRange().GetDeleted() > 0, nil
	}
	return answer.Succeeded, nil
}
