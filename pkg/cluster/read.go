package cluster

import (
	"context"
	"errors"

	"sync"

	"github.com/hashicorp/go-hclog"
	"go.etcd.io/etcd/api/v3/mvccpb"
	"go.etcd.io/etcd/api/v3/v3rpc/rpctypes"
	clientv3 "go.etcd.io/etcd/client/v3"
)

// pageSize is the limit for one answer to a list, in records.
const pageSize = 256

// list reads a range of keys, page by page, as it stands at one revision of etcd, sorted by key. It begins again if etcd compacts that
// revision meanwhile.
func (s *Store) list(ctx context.Context, span keyRange, options ...clientv3.OpOption) (kvs []*mvccpb.KeyValue, revision int64, err error) {
	parts := span.parts()
	for part, from := 0, span.from; ; {
		page, err := s.page(ctx, from, parts[part].to, append(options, clientv3.WithLimit(pageSize), clientv3.WithRev(revision))...)
		if errors.Is(err, rpctypes.ErrCompacted) {
			kvs, revision, part, from = nil, 0, 0, span.from
			continue
		}
		if err != nil {
			return nil, 0, err
		}
		if revision == 0 {
			revision = page.Header.Revision
		}
		kvs = append(kvs, page.Kvs...)
		switch {
		case page.More:
			from = string(kvs[len(kvs)-1].Key) + "\x00"
		case part == len(parts)-1:
			return kvs, revision, nil
		default:
			part++
			from = parts[part].from
		}
	}
}

// page reads the keys from one key up to another, which is not included, in one call to etcd. An empty to means the one key from.
func (s *Store) page(ctx context.Context, from, to string, options ...clientv3.OpOption) (*clientv3.GetResponse, error) {
	call, cancel := context.WithTimeout(ctx, s.timeout)
	defer cancel()
	page, err := s.client.Get(call, from, append(options, clientv3.WithRange(to))...)
	if err != nil {
		return nil, s.explain(ctx, "reading "+from, err)
	}
	return page, nil
}

// decodeAll decodes records, in their order. It leaves out those that can't be decoded, and logs each version of them once.
func decodeAll[T any](s *Store, kvs []*mvccpb.KeyValue, decode func(*mvccpb.KeyValue) (T, error)) []T {
	var values []T
	for _, kv := range kvs {
		value, err := decode(kv)
		if err != nil {
			s.unreadable.report(kv, err)
			continue
		}
		values = append(values, value)
	}
	return values
}

// unreadableLog logs records that can't be read: once for each time that a record was written, however often it is read.
type unreadableLog struct {
	logger hclog.Logger

	mu   sync.Mutex
	told map[string]int64 // the mod revision that was logged last, by key; guarded by mu
}

// maxTold is the limit for the records that unreadableLog remembers. Beyond it, it forgets them, and some are logged again.
const maxTold = 1024

// report logs a record that can't be read, with the reason, unless this version of it was logged before.
func (s *unreadableLog) report(kv *mvccpb.KeyValue, reason error) {
	key := string(kv.Key)
	s.mu.Lock()
	known := s.told[key] == kv.ModRevision
	if s.told == nil || len(s.told) >= maxTold {
		s.told = map[string]int64{}
	}
	s.told[key] = kv.ModRevision
	s.mu.Unlock()
	if !known {
		s.logger.Warn("skipping a record in etcd that can't be read", "key", key, "revision", kv.ModRevision, "error", reason)
	}
}
