package testgrid

import (
	"context"
	"errors"
	"fmt"
	"testing"

	clientv3 "go.etcd.io/etcd/client/v3"
	"go.uber.org/zap"

	"github.com/kisgrid/kisgrid/internal/testprocess"
	"github.com/kisgrid/kisgrid/pkg/cluster"
	"github.com/kisgrid/kisgrid/pkg/definition"
)

// Document makes a document of a kind with a name. The body is the rest of its YAML: Document writes the lines kistype and, as the
// kind has it, flow_name, fname or cname before the body.
func Document(kind definition.Kind, name, body string) definition.Document {
	field := map[definition.Kind]string{definition.KindFlow: "flow_name", definition.KindFunc: "fname", definition.KindConn: "cname"}[kind]
	return definition.Document{Kind: kind, Name: name, YAML: fmt.Appendf(nil, "kistype: %s\n%s: %s\n%s", kind, field, name, body)}
}

// Definitions is access to the documents and the statuses of a cluster, in the cluster's etcd. Its methods may be called from several
// goroutines, but only the test's own goroutine may call those that can fail the test.
type Definitions struct {
	// Store is how the programs of the project reach etcd.
	Store *cluster.Store
	// Etcd is a plain client of etcd, which knows nothing of the project.
	Etcd *clientv3.Client
	// TB is the test that a failure ends. A test that has subtests may set it to the one that runs.
	TB testing.TB
}

// OpenDefinitions connects to an etcd at its addresses (host:port). The connections are closed when the test ends.
func OpenDefinitions(tb testing.TB, addresses ...string) *Definitions {
	tb.Helper()
	d := &Definitions{TB: tb}
	var err error
	if d.Store, err = cluster.Open(cluster.Config{Endpoints: addresses}); err != nil {
		tb.Fatal(err)
	}
	tb.Cleanup(func() { _ = d.Store.Close() })
	if d.Etcd, err = clientv3.New(clientv3.Config{Endpoints: addresses, Logger: zap.NewNop()}); err != nil {
		tb.Fatal(err)
	}
	tb.Cleanup(func() { _ = d.Etcd.Close() })
	return d
}

// Put writes documents as etcdctl does: unparsed, in one transaction, so that nobody sees only some of them. It returns the
// transaction's revision in etcd.
func (d *Definitions) Put(documents ...definition.Document) (revision int64) {
	d.TB.Helper()
	var puts []clientv3.Op
	for _, doc := range documents {
		puts = append(puts, clientv3.OpPut("/kisgrid/config/"+string(doc.Kind)+"/"+doc.Name, string(doc.YAML)))
	}
	return d.commit(puts)
}

// Delete deletes documents, named as "kind/name", in one transaction. It returns the transaction's revision in etcd.
func (d *Definitions) Delete(names ...string) (revision int64) {
	d.TB.Helper()
	var deletes []clientv3.Op
	for _, name := range names {
		deletes = append(deletes, clientv3.OpDelete("/kisgrid/config/"+name))
	}
	return d.commit(deletes)
}

// commit runs operations in one transaction and returns its revision.
func (d *Definitions) commit(operations []clientv3.Op) (revision int64) {
	d.TB.Helper()
	answer, err := d.Etcd.Txn(d.TB.Context()).Then(operations...).Commit()
	if err != nil {
		d.TB.Fatal(err)
	}
	return answer.Header.Revision
}

// Await waits until is returns true for a status of a flow, and returns that status. It looks at every status that the leader writes,
// also at those that do not last. The text what says in the failure which status was wanted.
func (d *Definitions) Await(flow, what string, is func(cluster.FlowStatus) bool) cluster.FlowStatus {
	d.TB.Helper()
	ctx, cancel := context.WithTimeout(d.TB.Context(), testprocess.Patience)
	defer cancel()
	var last, found cluster.FlowStatus
	done := errors.New("found")
	ended, stop := context.WithCancelCause(ctx)
	err := d.Store.FollowFlows(ended, func(flows []cluster.ActiveFlow) {
		for _, f := range flows {
			if f.Status.Flow != flow || context.Cause(ended) != nil {
				continue
			}
			if last = f.Status; is(f.Status) {
				found = f.Status
				stop(done)
			}
		}
	})
	if !errors.Is(context.Cause(ended), done) {
		d.TB.Fatalf("flow %s did not come to this: %s: %v; its status is %+v", flow, what, err, last)
	}
	return found
}
