package cluster

import (
	"context"

	clientv3 "go.etcd.io/etcd/client/v3"

	"github.com/kisgrid/kisgrid/pkg/batch"
)

// What etcd takes in one transaction where it is not configured otherwise, and what a request weighs beside its keys and
// values, rounded up.
const (
	maxOperations   = 128
	maxBytes        = 3 << 19 // 1.5 MiB
	requestOverhead = 256
	entryOverhead   = 32
)

// transaction gathers what is written together, and counts what etcd will count. It belongs to one goroutine.
type transaction struct {
	store      *Store
	doing      string // for messages
	conditions []clientv3.Cmp
	then       []clientv3.Op
	otherwise  []clientv3.Op
	bytes      int
}

func (t *transaction) condition(c clientv3.Cmp, key string) {
	t.conditions = append(t.conditions, c)
	t.bytes += len(key) + entryOverhead
}

func (t *transaction) put(key, value string) {
	t.then = append(t.then, clientv3.OpPut(key, value))
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

// commit refuses what etcd would refuse for its size, with what is wrong and before it is sent, and sends the rest.
func (t *transaction) commit(ctx context.Context) (*clientv3.TxnResponse, error) {
	switch n := max(len(t.conditions), len(t.then)); {
	case n > maxOperations:
		return nil, batch.Errorf(batch.CodeBadDocument, "%s: %d keys at once, etcd takes %d in one transaction: write them in parts", t.doing, n, maxOperations)
	case t.bytes+requestOverhead > maxBytes:
		return nil, batch.Errorf(batch.CodeBadDocument, "%s: %d bytes at once, etcd takes %d in one transaction: write less, or in parts",
			t.doing, t.bytes+requestOverhead, maxBytes)
	}
	return t.store.commit(ctx, t.doing, t.conditions, t.then, t.otherwise)
}
