package admin

import (
	"context"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/hashicorp/go-hclog"
	"github.com/prometheus/client_golang/prometheus"

	"github.com/kisgrid/kisgrid/internal/access"
	"github.com/kisgrid/kisgrid/internal/wire"
	"github.com/kisgrid/kisgrid/pkg/batch"
	"github.com/kisgrid/kisgrid/pkg/cluster"
	"github.com/kisgrid/kisgrid/pkg/coordinator/internal/flowstate"
	"github.com/kisgrid/kisgrid/pkg/definition"
	pb "github.com/kisgrid/kisgrid/proto/kisgrid/v1"
)

// Limits of the audit log's writer.
const (
	auditQueue = 1024            // so many entries may wait for etcd; further ones are in the log of the process only
	auditPause = time.Second     // the pause after etcd did not take entries
	auditFlush = 2 * time.Second // how long the end of the process waits for the last entries
	// auditText and auditFlows are the most bytes of the detail of an entry, and of the names of its flows. Callers choose both, and an entry
	// for which a request to etcd has no room (1.5 MiB) would hold up all later ones.
	auditText  = 1 << 10
	auditFlows = 8 << 10
)

// Auditor writes entries of the audit log: each at once to the log of the process, and to etcd when etcd takes them. Any goroutine may use it.
type Auditor struct {
	store   *cluster.Store
	log     hclog.Logger
	id      string // of the coordinator
	entries chan cluster.AuditEntry
	missed  prometheus.Counter // entries that etcd lacks
}

// NewAuditor makes an Auditor of the coordinator with this id. Run must be called.
func NewAuditor(store *cluster.Store, id string, log hclog.Logger) *Auditor {
	return &Auditor{
		store: store, log: log, id: id, entries: make(chan cluster.AuditEntry, auditQueue),
		missed: prometheus.NewCounter(prometheus.CounterOpts{Name: "kisgrid_audit_entries_missed_total", Help: "Entries of the audit log that etcd lacks, because too many waited for it; the log of the process has them."}),
	}
}

// Collectors returns the metrics of the audit log, for a registry.
func (a *Auditor) Collectors() []prometheus.Collector { return []prometheus.Collector{a.missed} }

// entry makes the entry about something that the caller of ctx does. Texts that are too long are cut.
func (a *Auditor) entry(ctx context.Context, action, detail string, flows ...string) cluster.AuditEntry {
	who := access.From(ctx)
	room := auditFlows
	for i, flow := range flows {
		if room -= len(flow); room < 0 {
			detail = strings.TrimPrefix(fmt.Sprintf("%s; and %d more flows", detail, len(flows)-i), "; ")
			flows = flows[:i]
			break
		}
	}
	if len(detail) > auditText {
		detail = strings.ToValidUTF8(detail[:auditText], "") + "…"
	}
	return cluster.AuditEntry{At: time.Now().UTC(), Author: who.Name, Address: who.Address, Action: action, Detail: detail, Flows: flows, Coordinator: a.id}
}

// tell writes an entry to the log of the process.
func (a *Auditor) tell(e *cluster.AuditEntry) {
	a.log.Info(e.Action, "author", e.Author, "address", e.Address, "flows", e.Flows, "documents", e.Documents, "detail", e.Detail)
}

// record notes that the caller of ctx does something. It does not wait for etcd.
func (a *Auditor) record(ctx context.Context, action, detail string, flows ...string) {
	e := a.entry(ctx, action, detail, flows...)
	a.tell(&e)
	select {
	case a.entries <- e:
	default:
		a.missed.Inc()
		a.log.Warn("the audit log in etcd lacks an entry, because too many wait for etcd; the entry is in this log", "action", action, "author", e.Author)
	}
}

// Run writes entries to etcd until ctx is done. Then it writes those that still wait, for a moment, and returns.
func (a *Auditor) Run(ctx context.Context) {
	var waiting []cluster.AuditEntry
	for {
		if len(waiting) == 0 {
			select {
			case e := <-a.entries:
				waiting = append(waiting, e)
			case <-ctx.Done():
			}
		}
		waiting = a.gather(waiting)
		if ctx.Err() != nil {
			break
		}
		if err := a.store.PutAudit(ctx, waiting...); err == nil {
			waiting = nil
			continue
		}
		select {
		case <-time.After(auditPause):
		case <-ctx.Done():
		}
	}
	last, cancel := context.WithTimeout(context.WithoutCancel(ctx), auditFlush)
	defer cancel()
	for len(waiting) > 0 {
		if err := a.store.PutAudit(last, waiting...); err != nil {
			a.missed.Add(float64(len(waiting) + len(a.entries)))
			a.log.Warn("the audit log in etcd lacks the last entries; they are in this log", "entries", len(waiting)+len(a.entries), "error", err)
			return
		}
		waiting = a.gather(nil)
	}
}

// gather adds the entries that wait, up to cluster.AuditBatch, without blocking.
func (a *Auditor) gather(some []cluster.AuditEntry) []cluster.AuditEntry {
	for len(some) < cluster.AuditBatch {
		select {
		case e := <-a.entries:
			some = append(some, e)
		default:
			return some
		}
	}
	return some
}

// putDocuments writes and deletes documents as Store.PutDocuments does, and notes who did it. flows are the flows that need them.
func (a *admin) putDocuments(ctx context.Context, action string, flows []string, expect map[cluster.Key]int64, put []definition.Document, gone []cluster.Key) (int64, error) {
	detail := ""
	if len(gone) > 0 && action != "delete" {
		detail = fmt.Sprintf("deletes %d of the documents", len(gone))
	}
	e := a.Auditor.entry(ctx, action, detail, flows...)
	revision, failed, err := a.Store.ChangeDocuments(ctx, expect, put, gone, e)
	if err != nil {
		return 0, err
	}
	for _, d := range put {
		e.Documents = append(e.Documents, flowstate.KeyOf(d).String())
	}
	for _, key := range gone {
		e.Documents = append(e.Documents, key.String())
	}
	a.Auditor.tell(&e)
	if failed != nil {
		a.Auditor.log.Warn("an entry of the audit log is announced in etcd only, and gets its place later", "action", action, "error", failed)
	}
	return revision, nil
}

// Audit returns the entries of the audit log that the caller may see, oldest first: those about a flow on which it has the right view, and all
// if it has the right on all flows.
func (a *admin) Audit(ctx context.Context, in *pb.AuditRequest) (*pb.AuditResponse, error) {
	entries, err := a.Store.Audit(ctx, 0)
	if err != nil {
		return nil, wire.Status(err)
	}
	who := access.From(ctx)
	out := &pb.AuditResponse{}
	for i := range entries {
		e := &entries[i]
		flows := slices.DeleteFunc(slices.Clone(e.Flows), func(flow string) bool { return !who.May(access.View, flow) })
		switch {
		case len(flows) == 0 && !who.MayAll(access.View),
			in.GetFlow() != "" && !slices.Contains(flows, in.GetFlow()),
			in.GetAuthor() != "" && e.Author != in.GetAuthor(),
			e.At.UnixMilli() < in.GetSinceUnixMilliseconds():
			continue
		}
		m := &pb.AuditEntry{
			AtUnixMilliseconds: e.At.UnixMilli(), Author: e.Author, Address: e.Address, Action: e.Action, Flows: flows, Revision: e.Revision,
			Detail: e.Detail, Coordinator: e.Coordinator,
		}
		for _, d := range e.Documents { // a change may be of documents of several flows
			if flow, is := strings.CutPrefix(d, string(definition.KindFlow)+"/"); !is || who.May(access.View, flow) {
				m.Documents = append(m.Documents, d)
			}
		}
		out.Entries = append(out.Entries, m)
	}
	if n := len(out.GetEntries()); in.GetLimit() > 0 && n > int(in.GetLimit()) {
		out.Entries = out.GetEntries()[n-int(in.GetLimit()):]
	}
	return out, nil
}

// lettersDetail says in words which dead letters a filter selects, without contents of rows.
func lettersDetail(f *pb.DeadFilter) string {
	var parts []string
	if f.GetFunction() != "" {
		parts = append(parts, "function "+f.GetFunction())
	}
	if f.GetCode() != 0 {
		parts = append(parts, "code "+batch.Code(f.GetCode()).String())
	}
	if f.GetSinceUnixMilliseconds() != 0 {
		parts = append(parts, "since "+time.UnixMilli(f.GetSinceUnixMilliseconds()).UTC().Format(time.RFC3339))
	}
	if f.GetUntilUnixMilliseconds() != 0 {
		parts = append(parts, "until "+time.UnixMilli(f.GetUntilUnixMilliseconds()).UTC().Format(time.RFC3339))
	}
	if f.GetBatch() != "" {
		parts = append(parts, "batch "+f.GetBatch())
	}
	for _, w := range f.GetFields() { // without its value, which is the contents of a row
		parts = append(parts, "a value of "+w.GetField())
	}
	if f.GetKey() != "" {
		parts = append(parts, "a key")
	}
	if f.GetText() != "" {
		parts = append(parts, "a text")
	}
	if ids := f.GetIds(); len(ids) > 0 {
		parts = append(parts, "ids "+strings.Join(ids[:min(len(ids), 5)], ", "))
	}
	return strings.Join(parts, "; ")
}
