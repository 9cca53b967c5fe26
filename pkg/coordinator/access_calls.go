package coordinator

import (
	"github.com/kisgrid/kisgrid/internal/access"
	pb "github.com/kisgrid/kisgrid/proto/kisgrid/v1"
)

// onFlow makes the rule of a call that needs a right on the one flow that its request names.
func onFlow[Request interface{ GetFlow() string }](r access.Right) access.Rule {
	return func(c access.Caller, request any) error {
		in, ok := request.(Request)
		if !ok {
			return c.Need(r, "")
		}
		return c.Need(r, in.GetFlow())
	}
}

// onSome makes the rule of a call that needs one of the rights on some flow. The call itself asks which flows it concerns.
func onSome(rights ...access.Right) access.Rule {
	return func(c access.Caller, _ any) error { return c.NeedSome(rights...) }
}

// onLetters makes the rule of a call that needs a right on the flow of the dead letters that its request selects. If the request names no
// flow, the call selects letters of those flows only on which the caller has the right.
func onLetters[Request interface{ GetFilter() *pb.DeadFilter }](r access.Right) access.Rule {
	return func(c access.Caller, request any) error {
		if in, ok := request.(Request); ok && in.GetFilter().GetFlow() != "" {
			return c.Need(r, in.GetFilter().GetFlow())
		}
		return c.NeedSome(r)
	}
}

// accessRules has the right that each call of a coordinator needs. A call that is not here is refused where there is an access file.
var accessRules = map[string]access.Rule{
	pb.Ingest_Submit_FullMethodName: onFlow[*pb.SubmitRequest](access.Submit),
	pb.Ingest_Stream_FullMethodName: func(c access.Caller, request any) error {
		in, _ := request.(*pb.StreamRequest)
		if in.GetOpen() == nil {
			return c.NeedSome(access.Submit) // the call refuses a stream that does not begin with Open
		}
		return c.Need(access.Submit, in.GetOpen().GetFlow())
	},
	pb.Ingest_BeginTerm_FullMethodName:  onFlow[*pb.BeginTermRequest](access.Submit),
	pb.Admin_Apply_FullMethodName:       onSome(access.Define, access.Connect),
	pb.Admin_Delete_FullMethodName:      onSome(access.Define, access.Connect),
	pb.Admin_CheckDelete_FullMethodName: onSome(access.Define, access.Connect),
	pb.Admin_Get_FullMethodName:         onSome(access.View, access.Define),
	pb.Admin_Rollout_FullMethodName:     onFlow[*pb.RolloutRequest](access.View),
	pb.Admin_History_FullMethodName:     onFlow[*pb.HistoryRequest](access.View),
	pb.Admin_Explain_FullMethodName: func(c access.Caller, request any) error {
		in, _ := request.(*pb.ExplainRequest)
		if in.GetRows() { // the answer names keys of stores, which come from rows
			if err := c.Need(access.Rows, in.GetFlow()); err != nil {
				return err
			}
		}
		return c.Need(access.View, in.GetFlow())
	},
	pb.Admin_ListDead_FullMethodName: func(c access.Caller, request any) error {
		in, _ := request.(*pb.ListDeadRequest)
		if in.GetNoRows() {
			return onLetters[*pb.ListDeadRequest](access.View)(c, request)
		}
		return onLetters[*pb.ListDeadRequest](access.Rows)(c, request)
	},
	pb.Admin_EditDead_FullMethodName: func(c access.Caller, request any) error {
		in, _ := request.(*pb.EditDeadRequest)
		for _, r := range []access.Right{access.Operate, access.Rows} {
			if in.GetFlow() == "" {
				if err := c.NeedSome(r); err != nil {
					return err
				}
			} else if err := c.Need(r, in.GetFlow()); err != nil {
				return err
			}
		}
		if in.GetFlow() == "" {
			return nil // the call asks for the flow of the letter
		}
		return c.NeedUnmasked(in.GetFlow(), "edit dead letters")
	},
	pb.Admin_RedriveDead_FullMethodName: onLetters[*pb.RedriveDeadRequest](access.Operate),
	pb.Admin_RedriveDeadWithResults_FullMethodName: func(c access.Caller, request any) error {
		in, _ := request.(*pb.RedriveDeadWithResultsRequest)
		for _, r := range []access.Right{access.Operate, access.Rows} {
			if err := onLetters[*pb.RedriveDeadWithResultsRequest](r)(c, request); err != nil {
				return err
			}
		}
		if in.GetFilter().GetFlow() == "" {
			return nil // the call asks for each flow of the letters
		}
		return c.NeedUnmasked(in.GetFilter().GetFlow(), "see the output of a redrive")
	},
	pb.Admin_DropDead_FullMethodName: onLetters[*pb.DropDeadRequest](access.Operate),
	pb.Admin_Version_FullMethodName:  nil,
	pb.Admin_Pause_FullMethodName:    onFlow[*pb.PauseRequest](access.Operate),
	pb.Admin_Cordon_FullMethodName:   func(c access.Caller, _ any) error { return c.NeedAll(access.Operate) }, // a worker runs everybody's flows
	pb.Admin_Figures_FullMethodName: func(c access.Caller, request any) error {
		if in, ok := request.(*pb.FiguresRequest); ok && in.GetFlow() != "" {
			return c.Need(access.View, in.GetFlow())
		}
		return c.NeedSome(access.View)
	},
	// Coordinators may make it without a right.
	pb.Admin_ShareFigures_FullMethodName: func(c access.Caller, _ any) error { return c.NeedAll(access.View) },
	pb.Admin_Tap_FullMethodName:          onFlow[*pb.TapRequest](access.Rows),
	pb.Admin_Audit_FullMethodName: func(c access.Caller, request any) error {
		if in, ok := request.(*pb.AuditRequest); ok && in.GetFlow() != "" {
			return c.Need(access.View, in.GetFlow())
		}
		return c.NeedSome(access.View)
	},
}
