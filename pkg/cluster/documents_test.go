package cluster_test

import (
	"context"
	"fmt"
	"math/rand/v2"
	"os/exec"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/kisgrid/kisgrid/pkg/batch"
	"github.com/kisgrid/kisgrid/pkg/cluster"
	"github.com/kisgrid/kisgrid/pkg/definition"
)

// documents is one state that FollowDocuments shows.
type documents struct {
	revision int64
	all      []definition.Document
}

func followDocuments(t *testing.T, s *cluster.Store) *following[documents] {
	t.Helper()
	return startFollowing(t, func(ctx context.Context, f func(documents)) error {
		return s.FollowDocuments(ctx, func(revision int64, all []definition.Document) { f(documents{revision, all}) })
	})
}

func (d documents) names() []string {
	var names []string
	for _, document := range d.all {
		names = append(names, string(document.Kind)+"/"+document.Name)
	}
	return names
}

func document(kind definition.Kind, name, yaml string) definition.Document {
	return definition.Document{Kind: kind, Name: name, YAML: []byte(yaml)}
}

func testDocuments(t *testing.T, s *server) {
	store := s.open(t, cluster.Config{})
	follower := followDocuments(t, store)
	if first := <-follower.states; len(first.all) != 0 {
		t.Errorf("shown at first, of nothing: %v", first)
	}
	text := "not: [parsed\x00\xff\n"
	created, err := store.PutDocuments(t.Context(), nil, []definition.Document{
		document(definition.KindFunc, "B", text), document(definition.KindFlow, "A", "a"), document(definition.KindConn, "C", ""),
	}, nil)
	if err != nil {
		t.Fatal(err)
	}
	at := prefix(t) + "config/"
	want := []definition.Document{
		{Kind: "conn", Name: "C", Revision: created, Path: at + "conn/C"},
		{Kind: "flow", Name: "A", YAML: []byte("a"), Revision: created, Path: at + "flow/A"},
		{Kind: "func", Name: "B", YAML: []byte(text), Revision: created, Path: at + "func/B"},
	}
	got := follower.await(t, "three documents", func(d documents) bool { return len(d.all) == 3 })
	if diff := cmp.Diff(want, got.all); diff != "" || got.revision < created {
		t.Errorf("followed at revision %d (-want +got):\n%s", got.revision, diff)
	}
	revision, read, err := store.Documents(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff(want, read); diff != "" || revision < created {
		t.Errorf("read at revision %d (-want +got):\n%s", revision, diff)
	}
	changed, err := store.PutDocuments(t.Context(), nil, []definition.Document{document(definition.KindFlow, "A", "a2")},
		[]cluster.Key{{Kind: definition.KindFunc, Name: "B"}, {Kind: definition.KindFunc, Name: "never there"}})
	if err != nil {
		t.Fatal(err)
	}
	got = follower.await(t, "a change and a deletion", func(d documents) bool { return d.revision >= changed })
	if want := []string{"conn/C", "flow/A"}; !slices.Equal(got.names(), want) || string(got.all[1].YAML) != "a2" {
		t.Errorf("after a change and a deletion: %v", got)
	}
}

func testEtcdctl(t *testing.T, s *server) {
	if _, err := exec.LookPath("etcdctl"); err != nil {
		t.Skip("no etcdctl is installed")
	}
	store := s.open(t, cluster.Config{})
	follower := followDocuments(t, store)
	text := "kistype: flow\nflow_name: A # ümläut \"quoted\"\n\n"
	command := exec.Command("etcdctl", "--endpoints", s.address, "put", prefix(t)+"config/flow/A")
	command.Env = append(command.Environ(), "ETCDCTL_API=3")
	command.Stdin = strings.NewReader(text)
	if out, err := command.CombinedOutput(); err != nil {
		t.Fatalf("%v: %s", err, out)
	}
	got := follower.await(t, "what etcdctl put", func(d documents) bool { return len(d.all) == 1 })
	if string(got.all[0].YAML) != text || got.all[0].Name != "A" {
		t.Errorf("put %q, followed %v", text, got.all[0])
	}
	if _, err := store.PutDocuments(t.Context(), map[cluster.Key]int64{{Kind: "flow", Name: "A"}: got.all[0].Revision},
		[]definition.Document{document("flow", "A", text+"# more\n")}, nil); err != nil {
		t.Fatal(err)
	}
	command = exec.Command("etcdctl", "--endpoints", s.address, "get", "--print-value-only", prefix(t)+"config/flow/A")
	command.Env = append(command.Environ(), "ETCDCTL_API=3")
	if out, err := command.Output(); err != nil || string(out) != text+"# more\n\n" {
		t.Errorf("etcdctl reads %q, %v", out, err)
	}
}

func testForeignKeys(t *testing.T, s *server) {
	log := newJournal()
	store := s.open(t, cluster.Config{Logger: log})
	raw := s.raw(t)
	for _, key := range []string{"config/top", "config/flow/", "config/flow/a/b", "config/global/x", "config/flows/x", "elsewhere/x"} {
		put(t, raw, prefix(t)+key, "x")
	}
	follower := followDocuments(t, store)
	for i := range 3 { // later changes must not report the others again
		revision := put(t, raw, prefix(t)+"config/flow/A", fmt.Sprint(i))
		got := follower.await(t, "A", func(d documents) bool { return d.revision >= revision })
		if want := []string{"flow/A"}; !slices.Equal(got.names(), want) {
			t.Fatalf("followed %v, want %v", got.names(), want)
		}
	}
	if n := log.count("skipping"); n != 5 {
		t.Errorf("%d reports, want 5:\n%s", n, log.text)
	}
	for _, words := range []string{"config/flow/a/b ", "contains a slash", "the name is empty", `\"flows\" is no kind`, "move or delete it"} {
		if log.count(words) == 0 {
			t.Errorf("no report says %q:\n%s", words, log.text)
		}
	}
	put(t, raw, prefix(t)+"config/top", "written again")
	log.await(t, 6, "skipping")
}

func testConflict(t *testing.T, s *server) {
	store := s.open(t, cluster.Config{})
	a, b := cluster.Key{Kind: "flow", Name: "A"}, cluster.Key{Kind: "func", Name: "B"}
	first, err := store.PutDocuments(t.Context(), map[cluster.Key]int64{a: 0}, []definition.Document{document("flow", "A", "1")}, nil)
	if err != nil {
		t.Fatal(err)
	}
	for _, c := range []struct {
		name   string
		expect map[cluster.Key]int64
		says   []string
	}{
		{"it is there", map[cluster.Key]int64{a: 0, b: 0}, []string{fmt.Sprintf("flow/A is at revision %d, not 0", first)}},
		{"it is another", map[cluster.Key]int64{a: first - 1}, []string{fmt.Sprintf("flow/A is at revision %d, not %d", first, first-1)}},
		{"it is gone", map[cluster.Key]int64{a: first, b: 7}, []string{"func/B is at revision 0, not 7"}},
		{"all of it", map[cluster.Key]int64{a: first + 1, b: 7}, []string{"flow/A is at", "func/B is at"}},
	} {
		_, err := store.PutDocuments(t.Context(), c.expect, []definition.Document{document("flow", "A", "2"), document("func", "B", "2")}, nil)
		wantCode(t, err, batch.CodeConflict, append(c.says, "nothing was written")...)
		if strings.Contains(err.Error(), "func/B") != strings.Contains(strings.Join(c.says, ""), "func/B") {
			t.Errorf("%s: names too many: %v", c.name, err)
		}
	}
	revision, all, err := store.Documents(t.Context())
	if err != nil || len(all) != 1 || all[0].Revision != first {
		t.Errorf("conflicts wrote: %v at %d, %v", all, revision, err)
	}
	second, err := store.PutDocuments(t.Context(), map[cluster.Key]int64{a: first, b: 0}, []definition.Document{document("func", "B", "2")}, []cluster.Key{a})
	if err != nil || second <= first {
		t.Errorf("without a conflict: %d, %v", second, err)
	}
}

func testLimits(t *testing.T, s *server) {
	store := s.open(t, cluster.Config{})
	many := make([]definition.Document, 129)
	expect := map[cluster.Key]int64{}
	for i := range many {
		many[i] = document("func", fmt.Sprintf("F%d", i), "x")
		expect[cluster.Key{Kind: "func", Name: many[i].Name}] = 0
	}
	_, err := store.PutDocuments(t.Context(), nil, many, nil)
	wantCode(t, err, batch.CodeBadDocument, "129 keys", "etcd takes 128", "in parts")
	_, err = store.PutDocuments(t.Context(), expect, nil, nil)
	wantCode(t, err, batch.CodeBadDocument, "129 keys")
	delete(expect, cluster.Key{Kind: "func", Name: "F128"})
	// etcd itself takes a change that is just within the limits.
	if _, err := store.PutDocuments(t.Context(), expect, many[:128], nil); err != nil {
		t.Errorf("128 documents: %v", err)
	}
	size := 3 << 19
	for ; size > 3<<19-1024; size -= 32 {
		_, err := store.PutDocuments(t.Context(), nil, []definition.Document{document("flow", "big", strings.Repeat("x", size))}, nil)
		if err == nil {
			break
		}
		wantCode(t, err, batch.CodeBadDocument, "bytes at once, etcd takes 1572864")
	}
	if size == 3<<19 || size <= 3<<19-1024 {
		t.Errorf("of 1.5 MiB, %d bytes fit", size)
	}
	for _, c := range []struct {
		put  []definition.Document
		del  []cluster.Key
		says string
	}{
		{[]definition.Document{document("global", "x", "")}, nil, "no kind of document"},
		{[]definition.Document{document("flow", "", "")}, nil, "name is empty"},
		{nil, []cluster.Key{{Kind: "flow", Name: "a/b"}}, "contains a slash"},
		{[]definition.Document{document("flow", "A", "")}, []cluster.Key{{Kind: "flow", Name: "A"}}, "named twice"},
	} {
		_, err := store.PutDocuments(t.Context(), nil, c.put, c.del)
		wantCode(t, err, batch.CodeBadDocument, c.says)
	}
}

// testParts divides random documents, and has etcd take each part, under conditions.
func testParts(t *testing.T, s *server) {
	random := rand.New(rand.NewPCG(1, 2))
	for _, most := range []int{1, 7, 128} {
		store := s.open(t, cluster.Config{MaxOperations: most})
		var docs []definition.Document
		expect := map[cluster.Key]int64{}
		for i := range 40 {
			size := random.IntN(2000)
			if i%8 == 0 {
				size = 1<<19 + random.IntN(1<<19) // so that five of them don't fit into one
			}
			kind := []definition.Kind{"flow", "func", "conn"}[random.IntN(3)]
			docs = append(docs, document(kind, fmt.Sprintf("%s-%d-%d", strings.Repeat("n", random.IntN(100)), most, i), strings.Repeat("x", size)))
		}
		order := map[definition.Kind]int{"conn": 0, "func": 1, "flow": 2}
		parts, written, last := store.Parts(docs), 0, 0
		for i, part := range parts {
			clear(expect)
			for _, d := range part {
				expect[cluster.Key{Kind: d.Kind, Name: d.Name}] = 0
				if order[d.Kind] < last {
					t.Errorf("with %d at once, a %s comes too late", most, d.Kind)
				}
				last = order[d.Kind]
			}
			if _, err := store.PutDocuments(t.Context(), expect, part, nil); err != nil {
				t.Errorf("with %d at once, part %d of %d documents: %v", most, i, len(part), err)
			}
			written += len(part)
		}
		if written != len(docs) || most == 1 && len(parts) != len(docs) || len(parts) < 2 {
			t.Errorf("with %d at once, %d documents make %d parts of %d documents", most, len(docs), len(parts), written)
		}
		if got := store.Parts(nil); len(got) != 0 {
			t.Errorf("nothing makes %d parts", len(got))
		}
	}
}
