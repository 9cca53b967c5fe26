package cluster

import (
	"errors"
	"fmt"
	"strconv"
	"strings"

	clientv3 "go.etcd.io/etcd/client/v3"

	"github.com/kisgrid/kisgrid/pkg/definition"
)

// Key names a document in etcd: config/<kind>/<name>.
type Key struct {
	Kind definition.Kind
	Name string
}

// String is kind/name.
func (k Key) String() string { return string(k.Kind) + "/" + k.Name }

// keys builds and reads every key that KisGrid has in etcd:
//
//	config/{flow,func,conn}/<name>     one YAML document
//	history/flow/<name>/<revision>     a HistoryEntry
//	status/flow/<name>                 a FlowStatus
//	status/{func,conn}/<name>          a DocumentStatus
//	workers/<id>                       a Worker, under its lease
//	coordinators/<id>                  a Coordinator, under its lease
//	leader/<lease>                     a campaign, under its lease: the id of a coordinator; the oldest one leads
type keys struct{ prefix string }

// keyRange is the keys from one up to another, which is not among them; an empty to means the one key.
type keyRange struct{ from, to string }

func below(prefix string) keyRange {
	return keyRange{from: prefix, to: clientv3.GetPrefixRangeEnd(prefix)}
}

func (k keys) config() keyRange             { return below(k.prefix + "config/") }
func (k keys) document(d Key) string        { return k.prefix + "config/" + d.String() }
func (k keys) history(flow string) keyRange { return below(k.prefix + "history/flow/" + flow + "/") }
func (k keys) status(flow string) string    { return k.prefix + "status/flow/" + flow }
func (k keys) statuses() keyRange           { return below(k.prefix + "status/") }
func (k keys) documentStatus(d Key) string  { return k.prefix + "status/" + d.String() }
func (k keys) workers() keyRange            { return below(k.prefix + "workers/") }
func (k keys) worker(id string) string      { return k.prefix + "workers/" + id }
func (k keys) named(name string) keyRange   { return below(k.prefix + "workers/" + name + "-") } // and some of longer names
func (k keys) coordinators() keyRange       { return below(k.prefix + "coordinators/") }
func (k keys) coordinator(id string) string { return k.prefix + "coordinators/" + id }
func (k keys) campaigns() keyRange          { return below(k.prefix + "leader/") }
func (k keys) campaign(l clientv3.LeaseID) string {
	return k.prefix + "leader/" + strconv.FormatInt(int64(l), 16)
}

func (k keys) revision(flow string, revision int64) string {
	return k.history(flow).from + strconv.FormatInt(revision, 10)
}

// flows spans history/ and status/, and leader/ between them: one range, so that one watch shows both in one order.
func (k keys) flows() keyRange {
	return keyRange{from: k.prefix + "history/", to: clientv3.GetPrefixRangeEnd(k.prefix + "status/")}
}

// readDocument is the reverse of document.
func (k keys) readDocument(key string) (Key, error) {
	kind, name, found := strings.Cut(strings.TrimPrefix(key, k.prefix+"config/"), "/")
	d := Key{Kind: definition.Kind(kind), Name: name}
	if !found {
		return Key{}, errors.New("the key is not config/<kind>/<name>")
	}
	return d, d.check()
}

// check says what is wrong with a key for a document.
func (k Key) check() error {
	switch k.Kind {
	case definition.KindFlow, definition.KindFunc, definition.KindConn:
	default:
		return fmt.Errorf("%q is no kind of document that a cluster keeps: flow, func or conn", k.Kind)
	}
	return checkName(k.Name)
}

// checkName says why a name can't be the last part of a key.
func checkName(name string) error {
	switch {
	case name == "":
		return errors.New("the name is empty")
	case strings.Contains(name, "/"):
		return fmt.Errorf("the name %q contains a slash", name)
	}
	return nil
}

// readStatus is the reverse of status; false for other keys.
func (k keys) readStatus(key string) (flow string, ok bool) {
	flow, ok = strings.CutPrefix(key, k.status(""))
	return flow, ok && checkName(flow) == nil
}

// readDocumentStatus is the reverse of documentStatus; false for other keys, those of flows among them.
func (k keys) readDocumentStatus(key string) (d Key, ok bool) {
	kind, name, ok := strings.Cut(strings.TrimPrefix(key, k.prefix+"status/"), "/")
	d = Key{Kind: definition.Kind(kind), Name: name}
	return d, ok && d.Kind != definition.KindFlow && d.check() == nil
}

// readRevision is the reverse of revision; false for other keys.
func (k keys) readRevision(key string) (flow string, revision int64, ok bool) {
	rest, ok := strings.CutPrefix(key, k.prefix+"history/flow/")
	if !ok {
		return "", 0, false
	}
	flow, number, ok := strings.Cut(rest, "/")
	if !ok {
		return "", 0, false
	}
	revision, err := strconv.ParseInt(number, 10, 64)
	return flow, revision, err == nil
}
