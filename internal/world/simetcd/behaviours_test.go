package simetcd_test

import (
	"fmt"
	"testing"

	pb "go.etcd.io/etcd/api/v3/etcdserverpb"
	clientv3 "go.etcd.io/etcd/client/v3"
)

// behaviours are scripts whose transcripts must be the same with the model and with a real etcd.
var behaviours = []struct {
	name string
	run  func(s *transcript)
	// newer says that the installed etcd may be too old for it, and is not asked.
	newer bool
}{
	{"keys and their versions", versions, false},
	{"ranges", ranges, true}, // before 3.6, keys without values have their lease
	{"ranges in other orders", orders, false},
	{"refused requests", refusals, true}, // before 3.5, an unknown order ends the process
	{"old revisions and compaction", oldRevisions, false},
	{"deletions", deletions, false},
	{"the value or the lease stays", ignore, false},
	{"conditions", conditions, false},
	{"nested transactions", nested, false},
	{"duplicate keys", duplicates, false},
	{"limits", limits, false},
	{"a watch", watch, false},
	{"a watch from the past", watchPast, false},
	{"a watch from the future", watchFuture, true},         // before 3.6, progress is reported for it too
	{"a watch of what is compacted", watchCompacted, true}, // before 3.6, a negative revision is taken
	{"filters and previous values", watchFilters, false},
	{"watches on one stream", watchMany, false},
	{"refused watches", watchRefused, true}, // before 3.6, the reasons differ
	{"one transaction is one answer", watchTransaction, false},
	{"fragments", watchFragments, true}, // before 3.5, they are cut otherwise
	{"leases", leases, false},
	{"keys move between leases", leaseMoves, false},
	{"a lease that runs out", leaseExpires, false},
	{"the client's recipes", recipes, true}, // before 3.6, keys without values have their lease
	{"users", users, true},                  // before 3.5, answers of sign-ins have other headers
}

// TestSameAsEmbeddedEtcd runs all behaviours with the model and with an embedded etcd.
func TestSameAsEmbeddedEtcd(t *testing.T) { sameAs(t, embedded(t), false) }

// TestSameAsInstalledEtcd runs the behaviours with the model and with the etcd of this machine.
func TestSameAsInstalledEtcd(t *testing.T) { sameAs(t, installed(t), true) }

// sameAs compares transcripts of the model with those of a real etcd.
func sameAs(t *testing.T, etcd server, old bool) {
	for _, b := range behaviours {
		t.Run(b.name, func(t *testing.T) {
			if b.newer && old {
				t.Skip("etcd before 3.6 differs here")
			}
			var lines [2][]string
			for i, s := range []server{etcd, model()} {
				s.run(t, func(t *testing.T, client *clientv3.Client) {
					script := newTranscript(t, client)
					b.run(script)
					lines[i] = script.lines
				})
			}
			if len(lines[0]) == 0 {
				t.Fatal("the script has written nothing down")
			}
			compare(t, etcd.name, lines[0], lines[1])
		})
	}
}

func (s *transcript) put(r *pb.PutRequest) {
	answer, err := s.kv.Put(s.Context(), r)
	s.note("put", answer, err)
}

func (s *transcript) get(r *pb.RangeRequest) {
	answer, err := s.kv.Range(s.Context(), r)
	s.note("range", answer, err)
}

func (s *transcript) delete(r *pb.DeleteRangeRequest) {
	answer, err := s.kv.DeleteRange(s.Context(), r)
	s.note("delete", answer, err)
}

func (s *transcript) txn(r *pb.TxnRequest) {
	answer, err := s.kv.Txn(s.Context(), r)
	s.note("txn", answer, err)
}

func (s *transcript) compact(revision int64) {
	answer, err := s.kv.Compact(s.Context(), &pb.CompactionRequest{Revision: revision})
	s.note("compact", answer, err)
}

// fill puts keys a to f, some of them several times, at revisions 1 to 9.
func (s *transcript) fill() {
	for i, key := range []string{"c", "a", "b", "a", "d", "f", "e", "a", "c"} {
		s.put(&pb.PutRequest{Key: []byte(key), Value: fmt.Appendf(nil, "v%d", 9-i)})
	}
}
