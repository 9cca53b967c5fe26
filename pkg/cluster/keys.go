package cluster

import (
	"errors"
	"fmt"
	"strconv"
	"strings"

	clientv3 "go.etcd.io/etcd/client/v3"

	"github.com/kisgrid/kisgrid/pkg/batch"
	"github.com/kisgrid/kisgrid/pkg/definition"
)

// Key names a document in etcd. Its key there is config/<kind>/<name>, below the prefix.
type Key struct {
	Kind definition.Kind
	Name string
}

// String returns kind/name, such as flow/Orders.
func (k Key) String() string { return string(k.Kind) + "/" + k.Name }

// keys builds and parses every key that KisGrid has in etcd. Below the prefix there are:
//
//	announced/<time>-<coordinator>-<n> an AuditEntry about a change that is being made
//	audit/<time>-<coordinator>-<n>     an AuditEntry
//	audit-began                        the time since which changes of documents have entries
//	config/{flow,func,conn}/<name>     one YAML document
//	history/flow/<name>/<revision>     a HistoryEntry
//	idempotency/<hash>                 a KeptRequest, under a lease
//	status/flow/<name>                 a FlowStatus
//	status/{func,conn}/<name>          a DocumentStatus
//	workers/<id>                       a Worker, under its lease
//	coordinators/<id>                  a Coordinator, under its lease
//	control/{flow,worker}/<name>       a Control: the flow is paused, or the worker is cordoned
//	log/<flow>/<id>                    a Log, which the flow reads from outside of the cluster
//	leader/<lease>                     a campaign of a coordinator, under its lease; the value is the coordinator's id. The oldest leads.
type keys struct{ prefix string }

// keyRange is a range of keys: from is included, to is not. An empty to means the one key from. Keys that begin with except are left out,
// unless that is empty.
type keyRange struct{ from, to, except string }

// parts returns the ranges that together have the keys of a range, without those that are left out.
func (r keyRange) parts() []keyRange {
	if r.except == "" {
		return []keyRange{r}
	}
	return []keyRange{{from: r.from, to: r.except}, {from: clientv3.GetPrefixRangeEnd(r.except), to: r.to}}
}

// below returns the range of all keys that begin with a prefix.
func below(prefix string) keyRange {
	return keyRange{from: prefix, to: clientv3.GetPrefixRangeEnd(prefix)}
}

func (k keys) announced() keyRange          { return below(k.prefix + "announced/") }
func (k keys) audit() keyRange              { return below(k.prefix + "audit/") }
func (k keys) auditBegan() string           { return k.prefix + "audit-began" }
func (k keys) config() keyRange             { return below(k.prefix + "config/") }
func (k keys) document(d Key) string        { return k.prefix + "config/" + d.String() }
func (k keys) history(flow string) keyRange { return below(k.prefix + "history/flow/" + flow + "/") }
func (k keys) status(flow string) string    { return k.prefix + "status/flow/" + flow }
func (k keys) statuses() keyRange           { return below(k.prefix + "status/") }
func (k keys) documentStatus(d Key) string  { return k.prefix + "status/" + d.String() }
func (k keys) workers() keyRange            { return below(k.prefix + "workers/") }
func (k keys) worker(id string) string      { return k.prefix + "workers/" + id }
func (k keys) named(name string) keyRange   { return below(k.prefix + "workers/" + name + "-") } // also has workers with longer names that begin so; callers check the name
func (k keys) coordinators() keyRange       { return below(k.prefix + "coordinators/") }
func (k keys) coordinator(id string) string { return k.prefix + "coordinators/" + id }
func (k keys) controls() keyRange           { return below(k.prefix + "control/") }
func (k keys) control(c Controlled, name string) string {
	return k.prefix + "control/" + string(c) + "/" + name
}
func (k keys) log(flow string, id batch.LogID) string {
	return k.prefix + "log/" + flow + "/" + id.String()
}
func (k keys) campaigns() keyRange { return below(k.prefix + "leader/") }
func (k keys) campaign(l clientv3.LeaseID) string {
	return k.prefix + "leader/" + strconv.FormatInt(int64(l), 16)
}

func (k keys) revision(flow string, revision int64) string {
	return k.history(flow).from + strconv.FormatInt(revision, 10)
}

// flows is the range of all that leaders write: from history/ to status/, with leader/ between them. It is one range, so that one watch
// shows changes of history and status in the order in which they were written. Kept requests lie between them and are left out, because
// there may be very many.
func (k keys) flows() keyRange {
	return keyRange{from: k.prefix + "history/", to: clientv3.GetPrefixRangeEnd(k.prefix + "status/"), except: k.request("")}
}

// logs is the range of the logs of a flow, or of all flows if flow is empty.
func (k keys) logs(flow string) keyRange {
	if flow == "" {
		return below(k.prefix + "log/")
	}
	return below(k.prefix + "log/" + flow + "/")
}

// request is the key of a kept request.
func (k keys) request(hash string) string { return k.prefix + "idempotency/" + hash }

// readDocument parses an etcd key below config/ into the kind and name of a document.
func (k keys) readDocument(key string) (Key, error) {
	kind, name, found := strings.Cut(strings.TrimPrefix(key, k.prefix+"config/"), "/")
	d := Key{Kind: definition.Kind(kind), Name: name}
	if !found {
		return Key{}, errors.New("the key is not config/<kind>/<name>")
	}
	return d, d.check()
}

// check returns an error if no document can have this Key: the kind is unknown, or the name can't be part of a key in etcd.
func (k Key) check() error {
	switch k.Kind {
	case definition.KindFlow, definition.KindFunc, definition.KindConn:
	default:
		return fmt.Errorf("%q is no kind of document that a cluster keeps: the kinds are flow, func and conn", k.Kind)
	}
	return checkName(k.Name)
}

// checkName returns an error if a name can't be the last part of a key, because it is empty or contains a slash.
func checkName(name string) error {
	switch {
	case name == "":
		return errors.New("the name is empty")
	case strings.Contains(name, "/"):
		return fmt.Errorf("the name %q contains a slash", name)
	}
	return nil
}

// readStatus parses the key of a flow's status. ok is false for every other key.
func (k keys) readStatus(key string) (flow string, ok bool) {
	flow, ok = strings.CutPrefix(key, k.status(""))
	return flow, ok && checkName(flow) == nil
}

// readDocumentStatus parses the key of a function's or connector's status. ok is false for every other key, also for that of a flow's
// status.
func (k keys) readDocumentStatus(key string) (d Key, ok bool) {
	kind, name, ok := strings.Cut(strings.TrimPrefix(key, k.prefix+"status/"), "/")
	d = Key{Kind: definition.Kind(kind), Name: name}
	return d, ok && d.Kind != definition.KindFlow && d.check() == nil
}

// readRevision parses the key of a HistoryEntry. ok is false for every other key.
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
