"""Sources that are not our own stream, with listeners as they are."""
