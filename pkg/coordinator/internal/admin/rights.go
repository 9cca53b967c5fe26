package admin

import (
	"fmt"
	"slices"
	"strings"

	"github.com/kisgrid/kisgrid/internal/access"
	"github.com/kisgrid/kisgrid/pkg/batch"
	"github.com/kisgrid/kisgrid/pkg/coordinator/internal/flowstate"
	"github.com/kisgrid/kisgrid/pkg/coordinator/internal/leader"
	"github.com/kisgrid/kisgrid/pkg/definition"
	pb "github.com/kisgrid/kisgrid/proto/kisgrid/v1"
)

// The rules in this file are for calls that concern several flows, or documents that several flows share. The interceptors of package access
// have checked before that the caller has the call's right on some flow.

// mayDefineOrView reports whether a caller may see the documents and the state of a flow.
func mayDefineOrView(who access.Caller, flow string) bool {
	return who.May(access.View, flow) || who.May(access.Define, flow)
}

// maySee reports whether a caller may see a stored document: a flow's, if it may see the flow, and another one, if it may see a flow that
// needs the document. A document that no flow needs is seen by callers who may see all flows, and by those who may change it.
func maySee(who access.Caller, d definition.Document, stored *leader.DesiredState) bool {
	if d.Kind == definition.KindFlow {
		return mayDefineOrView(who, d.Name)
	}
	users := stored.FlowsOf(d)
	if len(users) == 0 {
		return who.MayAll(access.View) || who.MaySome(rightFor(d.Kind))
	}
	return who.MayAll(access.View) || slices.ContainsFunc(users, func(flow string) bool { return mayDefineOrView(who, flow) })
}

// rightFor returns the right that a change of a document needs, beside Define on every flow that needs the document.
func rightFor(kind definition.Kind) access.Right {
	if kind == definition.KindConn {
		return access.Connect
	}
	return access.Define
}

// needForDocuments returns an error if the caller may not change the given documents for which changed is true, or not see the others. before
// and after have the flows as they are asked for without and with the change: a document of a function or connector may be changed by a
// caller with the right on every flow that needs it, before or after. A document that no flow needs may be changed by a caller with the
// right on some flow. The error does not name flows that the caller may not see.
func needForDocuments(who access.Caller, given []definition.Document, changed func(definition.Document) bool, before, after *leader.DesiredState) error {
	var lacks []string
	for _, d := range given {
		switch key := flowstate.KeyOf(d); {
		case !changed(d) && maySee(who, d, before):
		case d.Kind == definition.KindFlow:
			if !who.May(access.Define, d.Name) {
				lacks = append(lacks, fmt.Sprintf("%s: it needs the right define on the flow", key))
			}
		default:
			users := append(before.FlowsOf(d), after.FlowsOf(d)...)
			slices.Sort(users)
			if lack := lacksOn(who, d.Kind, slices.Compact(users)); lack != "" {
				lacks = append(lacks, fmt.Sprintf("%s: %s", key, lack))
			}
		}
	}
	if len(lacks) == 0 {
		return nil
	}
	return batch.Errorf(batch.CodePermissionDenied, "nothing was changed, because %q lacks rights:\n%s", who.Name, strings.Join(lacks, "\n"))
}

// lacksOn says which rights a caller lacks to change a document of this kind that the flows need; empty means none.
func lacksOn(who access.Caller, kind definition.Kind, users []string) string {
	right := rightFor(kind)
	if len(users) == 0 {
		if who.MaySome(right) {
			return ""
		}
		return fmt.Sprintf("it needs the right %s", right)
	}
	var named []string
	hidden := false
	for _, flow := range users {
		switch {
		case who.May(right, flow) && who.May(access.Define, flow):
		case mayDefineOrView(who, flow):
			named = append(named, flow)
		default:
			hidden = true
		}
	}
	rights := "the right define"
	if right != access.Define {
		rights = "the rights define and connect"
	}
	switch {
	case len(named) == 0 && !hidden:
		return ""
	case len(named) == 0:
		return fmt.Sprintf("flows need it on which %s is lacking", rights)
	case hidden:
		return fmt.Sprintf("it needs %s on flow %s, and on other flows", rights, strings.Join(named, ", "))
	}
	return fmt.Sprintf("it needs %s on flow %s", rights, strings.Join(named, ", "))
}

// hide removes from a dead letter the contents of its row that the caller may not see.
func hide(who access.Caller, l *pb.DeadLetter) {
	if !who.May(access.Rows, l.GetFlow()) {
		l.Row, l.Reason, l.Key = nil, "", 0
		return
	}
	masks := who.Masks(l.GetFlow())
	if len(masks) == 0 {
		return
	}
	l.Masked = masks
	l.Reason = "" // functions may write contents of the row into it
	if access.MasksField(masks, l.GetShardKey()) {
		l.Key = 0
	}
	if l.GetEncoding() != "" && l.GetEncoding() != batch.JSON {
		l.Row = nil
		return
	}
	row, err := access.MaskJSON(l.GetRow(), masks)
	if err != nil {
		row = nil // the row is not JSON, so nobody knows where its fields are
	}
	l.Row = row
}
