package main

import (
	"cmp"
	"io"
	"strings"
	"time"

	"github.com/spf13/cobra"

	pb "github.com/kisgrid/kisgrid/proto/kisgrid/v1"
)

// auditCommand makes the command kisgrid audit, which lists who did what.
func auditCommand() *cobra.Command {
	var s server
	var o output
	var in pb.AuditRequest
	var since time.Duration
	cmd := &cobra.Command{
		Use:   "audit",
		Short: "List who has changed something or has read rows, and when",
		Long: `audit lists the entries of the audit log that you may see: changes of documents, calls about dead letters, pauses, and reads of rows. The
log keeps the last 10,000 entries, of the last 90 days. A change of documents that was not made through a coordinator has the author
"etcd, unknown"; nobody knows its time, so it has the time at which the change was taken up.`,
		Example: "  kisgrid audit --since 24h\n  kisgrid audit --flow Pay -o json",
		Args:    exactly(),
		RunE: func(cmd *cobra.Command, _ []string) error {
			if since > 0 {
				in.SinceUnixMilliseconds = time.Now().Add(-since).UnixMilli()
			}
			var answer *pb.AuditResponse
			err := s.admin(func(a pb.AdminClient) (err error) {
				answer, err = a.Audit(cmd.Context(), &in)
				return err
			})
			if err != nil {
				return err
			}
			return printAudit(cmd.OutOrStdout(), answer, &o)
		},
	}
	fs := cmd.Flags()
	fs.DurationVar(&since, "since", 0, "only entries of the last `duration`, such as 24h")
	fs.StringVar(&in.Flow, "flow", "", "only entries about this `flow`")
	fs.StringVar(&in.Author, "author", "", "only entries of this `author`")
	fs.Uint32Var(&in.Limit, "limit", 0, "at most the newest `n` entries; 0 means all")
	o.bind(cmd, listFormats...)
	s.bind(cmd)
	return cmd
}

// auditView is an entry of the audit log as -o json prints it.
type auditView struct {
	At          time.Time `json:"at"`
	Author      string    `json:"author"`
	Address     string    `json:"address,omitempty"`
	Action      string    `json:"action"`
	Flows       []string  `json:"flows,omitempty"`
	Documents   []string  `json:"documents,omitempty"`
	Revision    int64     `json:"revision,omitempty"`
	Detail      string    `json:"detail,omitempty"`
	Coordinator string    `json:"coordinator,omitempty"`
}

// printAudit prints entries as a table, or as data.
func printAudit(out io.Writer, answer *pb.AuditResponse, o *output) error {
	all := []auditView{}
	l := &list{heading: []string{"AT", "AUTHOR", "FROM", "ACTION", "FLOWS", "DOCUMENTS", "DETAIL"}, none: "there are no entries that you may see"}
	for _, e := range answer.GetEntries() {
		one := auditView{
			At: time.UnixMilli(e.GetAtUnixMilliseconds()).UTC(), Author: e.GetAuthor(), Address: e.GetAddress(), Action: e.GetAction(), Flows: e.GetFlows(),
			Documents: e.GetDocuments(), Revision: e.GetRevision(), Detail: e.GetDetail(), Coordinator: e.GetCoordinator(),
		}
		all = append(all, one)
		l.names = append(l.names, one.At.Format(time.RFC3339Nano))
		l.rows = append(l.rows, []string{
			one.At.Format(time.RFC3339), one.Author, cmp.Or(one.Address, "-"), one.Action, cmp.Or(strings.Join(one.Flows, ","), "-"),
			cmp.Or(strings.Join(one.Documents, ","), "-"), cmp.Or(one.Detail, "-"),
		})
	}
	l.value = all
	return o.print(out, l)
}
