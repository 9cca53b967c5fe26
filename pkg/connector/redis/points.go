package redis

import "github.com/kisgrid/kisgrid/internal/point"

// These count how often the process got to branches that mend what went wrong.
var (
	pointUnanswered      = point.New("redis/trip: a command was not answered")
	pointAgain           = point.New("redis/trip: commands are sent again after a pause")
	pointNoScript        = point.New("redis/save: the script was unknown")
	pointUnsure          = point.New("redis/save: too few replicas had it")
	pointGivenUp         = point.New("redis/save: a batch is below the floor of its stream")
	pointSuperseded      = point.New("redis/save: a later term of a log has begun")
	pointAlone           = point.New("redis/save: effects were tried alone")
	pointRowFault        = point.New("redis/save: effects were refused by their own fault")
	pointStoreFault      = point.New("redis/save: it failed by the fault of Redis")
	pointLoadAlone       = point.New("redis/load: a key was asked for once more")
	pointTooOld          = point.New("redis/once: a batch was too old")
	pointNarrower        = point.New("redis/once: a narrower window holds for an older batch")
	pointDenied          = point.New("redis/once: the key of the windows may not be used")
	pointFailing         = point.New("redis/health: an aspect began to fail")
	pointBack            = point.New("redis/health: an aspect works again")
	pointTold            = point.New("redis/watch: another process told of a Save")
	pointFound           = point.New("redis/watch: keys were found to be there")
	pointSubscribedAgain = point.New("redis/watch: subscriptions are sent again")
)
