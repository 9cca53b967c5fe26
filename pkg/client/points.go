package client

import "github.com/kisgrid/kisgrid/internal/point"

// These count how often the process got to branches that mend what went wrong.
var (
	pointBroken        = point.New("client/stream: batches that may have run are sent again")
	pointLasting       = point.New("client/stream: ended by an error that would come again")
	pointNoCoordinator = point.New("client/stream: had no coordinator for a while")
	pointRefusing      = point.New("client/stream: batches ended because no coordinator came in time")
	pointMoves         = point.New("client/move: another coordinator took the stream")
	pointMoveLate      = point.New("client/move: did not wait any longer for answers")
	pointStays         = point.New("client/move: no coordinator took the stream")
	pointOverLimit     = point.New("client/stream: a batch exceeds the limits of the next coordinator")
	pointLate          = point.New("client/stream: a batch was too late to be sent")
	pointUnwanted      = point.New("client/stream: an answer came to a batch that had ended")
	pointRefused       = point.New("client/stream: a batch was refused")
	pointRevision      = point.New("client/call: repeated with the revision that the coordinator named")
	pointRepeated      = point.New("client/call: repeated after an error")
	pointNeverLeft     = point.New("client/call: never left this process")
	pointUnread        = point.New("client/call: its answer could not be read")
	pointNothingRan    = point.New("client/call: refused before any row ran")
	pointUnknown       = point.New("client/call: cut off, so that rows may have run")
	pointShutDown      = point.New("client/call: ended by a coordinator that shuts down")
	pointTooOld        = point.New("client/producer: gave up a batch that was too old")
	pointForgotten     = point.New("client/producer: refused a batch that it had given up")
)
