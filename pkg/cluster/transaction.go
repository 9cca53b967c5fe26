package cluster

import (
	"context"

	clientv3 "go.etcd.io/etcd/client/v3"

	"github.com/kisgrid/kisgrid/pkg/batch"
)

// What etcd takes in one transaction where it is not configured otherwise, what we write in one for ourselves, and what a request
// weighs beside its keys and values, rounded up.
const (
	maxBytes        = 3 << 19 // 1.5 MiB
	requestOverhead = 256
	entryOverhead   = 32
)

// transaction gathers what is written together, and counts what etcd will count. It belongs to one goroutine.
type transaction struct {
	store *Store
	doing string // for messages

	conditions []clientv3.Cmp
	then       []clientv3.Op
	otherwise  []clientv3.Op
	bytes      int
}

func (s *Store) transaction(doing string) *transaction {
	return &transaction{store: s, doing: doing}
}

func (t *transaction) condition(c clientv3.Cmp, key string) {
	t.conditions = append(t.conditions, c)
	t.bytes += len(key) + entryOverhead
}

// created is the condition that a key is the one created at a revision; 0: that it is not there.
func (t *transaction) created(key string, revision int64) {
	t.condition(clientv3.Compare(clientv3.CreateRevision(key), "=", revision), key)
}

// written is the condition that a key was last written at a revision; 0: that it is not there.
func (t *transaction) written(key string, revision int64) {
	t.condition(clientv3.Compare(clientv3.ModRevision(key), "=", revision), key)
}

// noneSince is the condition that no key of a range was created after a revision.
func (t *transaction) noneSince(span keyRange, revision int64) {
	t.condition(clientv3.Compare(clientv3.CreateRevision(span.from), "<", revision+1).WithRange(span.to), span.from+span.to)
}

func (t *transaction) put(key, value string, options ...clientv3.OpOption) {
	t.then = append(t.then, clientv3.OpPut(key, value, options...))
	t.bytes += len(key) + len(value) + entryOverhead
}

func (t *transaction) delete(key string) {
	t.then = append(t.then, clientv3.OpDelete(key))
	t.bytes += len(key) + entryOverhead
}

// onFailure reads a key's revision when a condition does not hold.
func (t *transaction) onFailure(key string) {
	t.otherwise = append(t.otherwise, clientv3.OpGet(key, clientv3.WithKeysOnly()))
	t.bytes += len(key) + entryOverhead
}

// commit refuses what etcd would refuse for its size, before it is sent and with what is wrong, and sends the rest. Succeeded in
// the answer says whether the conditions held. After an error of the connection it may have been written all the same.
func (t *transaction) commit(ctx context.Context) (*clientv3.TxnResponse, error) {
	switch n := max(len(t.conditions), len(t.then)); {
	case n > t.store.most:
		return nil, batch.Errorf(batch.CodeBadDocument, "%s: %d keys at once, etcd takes %d in one transaction: write them in parts (kisgrid apply --in-parts does), "+
			"or raise etcd's --max-txn-ops, and then the coordinators' to the same", t.doing, n, t.store.most)
	case t.bytes+requestOverhead > maxBytes:
		return nil, batch.Errorf(batch.CodeBadDocument, "%s: %d bytes at once, etcd takes %d in one transaction: write less, or in parts (kisgrid apply --in-parts does)",
			t.doing, t.bytes+requestOverhead, maxBytes)
	}
	call, cancel := context.WithTimeout(ctx, t.store.timeout)
	defer cancel()
	answer, err := t.store.client.Txn(call).If(t.conditions...).Then(t.then...).Else(t.otherwise...).Commit()
	if err != nil {
		return nil, t.store.explain(ctx, t.doing, err)
	}
	return answer, nil
}
