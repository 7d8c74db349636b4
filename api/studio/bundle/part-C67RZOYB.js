var c=t=>t?.checkpoint?.checkpoint_id??t?.checkpoint_id??"",n=t=>t?.parent_checkpoint?.checkpoint_id??t?.parent_config?.configurable?.checkpoint_id??"";export{c as a,n as b};
